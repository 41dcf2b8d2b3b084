"""Rules for the whole code base: imports, sizes, names, documentation."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

from modelforge.config.fields import field_specs
from modelforge.config.schema.contract import Contract
from modelforge.config.schema.runtime import TRACKERS

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(file for top in ("modelforge", "ui") for file in (ROOT / top).rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS = {contract["id"]: contract for contract in PROJECT["tool"]["importlinter"]["contracts"]}
LONGEST_MODULE, LONGEST_FUNCTION = 400, 40
MOST_MODULES_IN_A_FOLDER = 22
SMALLEST_MODULE_WITH_ONE_IMPORTER = 40
VAGUE = {"utils", "util", "common", "core", "helpers", "helper", "manager", "misc", "lib"}
TORCH_PACKAGES = {"train", "chat", "export", "evaluate", "modeling"}
HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "bitsandbytes", "accelerate", "gguf"}

# Words that the field does not use for these things; see the vocabulary in CONTRIBUTING.md.
BANNED_NAMES = {
    "ailment", "ailments", "blame", "census", "cure", "cures", "desk", "desks", "dialect", "exam",
    "exams", "footing", "hall", "heed", "hindsight", "manner", "mend", "mended", "mends",
    "nobody", "rehearsal", "rehearsals", "rehearse", "rehearsed", "rehearsing", "said",
    "somebody", "talker", "teller", "told", "wish",
}  # fmt: skip
BANNED_PHRASES = re.compile(
    r"\b(nobody|somebody|whoever|rehears(e|al|als|ed|ing)|hindsight|mend(s|ed|ing)?"
    r"|(is|are) told|holds the machine|goes on with|ever other)\b",
    re.IGNORECASE,
)
# What readers of the pages and messages did not understand.
UNCLEAR = re.compile(
    r"\b(found out|read it differently|not said|say it yourself|say neither|levers? of speed"
    r"|activations kept|loss in pieces|as it was before|(is|are) no number|most updates"
    r"|tell phases|in which the adapter|lies on this|where (it|things) lies?|parted by"
    r"|waits as number|update in hand|does not listen|go on with it|train it for longer"
    r"|train another|planned anew|talker|worker prints|what came of|it learned|examine"
    r"|nothing but time|words of its name|practice mode|held[ -]out(?!-)|its first name"
    r"|a judge|learns to tell)\b",
    re.IGNORECASE,
)
# Readers of old run folders name the old words; `nobody` is a user name of Unix.
WORDS_ARE_NEEDED = {
    "modelforge/paths.py",
    "modelforge/runs/event_types.py",
    "modelforge/runs/view.py",
    "modelforge/diagnosis/redact.py",
    "modelforge/services/trial_runs.py",
    "modelforge/train/job.py",
}

# Contract → a module, and the import that it must not have.
VIOLATIONS = {
    "layers": ("modelforge/config/schema/config.py", "import modelforge.runs.layout"),
    "processes": ("modelforge/forge.py", "from modelforge.train import worker"),
    "modeling": ("modelforge/services/start.py", "import modelforge.modeling.perplexity"),
    "torch-programs": ("modelforge/chat/protocol.py", "import modelforge.forge"),
    "torch": ("modelforge/preflight/memory/estimate.py", "def lazily():\n    import torch"),
    "gradio": ("modelforge/runs/store.py", "import gradio"),
    "strategies-and-providers": (
        "modelforge/train/strategies/sft.py",
        "import modelforge.modeling.providers.huggingface",
    ),
    "setup": ("modelforge/setup/stages.py", "import psutil"),
}


def _name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def _script(name: str) -> ModuleType:
    spec = util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec
    assert spec.loader
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _lint_imports(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    start = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", start, "--no-logo", "--no-cache", *arguments],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(tree)},
    )


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("house")
    for top in ("modelforge", "ui"):
        shutil.copytree(ROOT / top, tree / top, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "pyproject.toml", tree)
    return tree


def test_the_import_contracts_hold() -> None:
    done = _lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_contract_has_a_violation_that_tries_it() -> None:
    assert set(VIOLATIONS) == set(CONTRACTS)


@pytest.mark.parametrize("contract", sorted(VIOLATIONS))
def test_a_violation_of_a_contract_is_detected(contract: str, copied: Path) -> None:
    name, line = VIOLATIONS[contract]
    module = copied / name
    before = module.read_text(encoding="utf-8")
    module.write_text(f"{before}\n{line}\n", encoding="utf-8")
    try:
        done = _lint_imports(copied, "--contract", contract)
    finally:
        module.write_text(before, encoding="utf-8")
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{CONTRACTS[contract]['name']} BROKEN" in done.stdout


def test_every_package_is_in_the_contracts() -> None:
    packages = {
        f"modelforge.{path.stem}"
        for path in (ROOT / "modelforge").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").is_file())
        and not path.name.startswith("__")
    }
    light = packages - {f"modelforge.{package}" for package in TORCH_PACKAGES}
    placed = {
        name.strip(" ()") for layer in CONTRACTS["layers"]["layers"] for name in layer.split("|")
    }
    assert light - placed == set()
    assert light - set(CONTRACTS["torch"]["source_modules"]) == set()


@pytest.mark.parametrize("file", MODULES, ids=_name)
def test_a_module_is_of_a_readable_size_and_has_a_docstring(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_MODULE
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "the module docstring is missing"
    too_long = [
        f"{node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno
        and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert not too_long


def _bound_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every name that a module defines: functions, classes, parameters and variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


@pytest.mark.parametrize("file", MODULES, ids=_name)
def test_a_module_uses_the_words_of_the_field(file: Path) -> None:
    if _name(file) in WORDS_ARE_NEEDED:
        pytest.skip("needs one of the words")
    text = file.read_text(encoding="utf-8")
    names = [
        f"line {line}: {name}"
        for name, line in _bound_names(ast.parse(text))
        if BANNED_NAMES & {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
    ]
    phrases = [
        f"line {number}: {match[0]}"
        for number, line in enumerate(text.splitlines(), 1)
        for match in BANNED_PHRASES.finditer(line)
    ]
    assert not names + phrases, "see the vocabulary in CONTRIBUTING.md"


def test_no_text_has_words_that_its_readers_did_not_understand() -> None:
    texts = [*MODULES, *(ROOT / "assets/js").glob("*.js"), *(ROOT / "assets/pages").rglob("*.*")]
    found = [
        f"{_name(file)}:{number}: {match[0]}"
        for file in texts
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        for match in UNCLEAR.finditer(line)
    ]
    assert not found
    assert UNCLEAR.search("The passage was found out.")


def test_no_module_has_a_vague_name() -> None:
    named = {part for file in MODULES for part in (*file.relative_to(ROOT).parts[:-1], file.stem)}
    assert not named & VAGUE


def test_no_folder_holds_too_many_modules() -> None:
    counts = Counter(_name(file.parent) for file in MODULES if file.name != "__init__.py")
    assert {name: n for name, n in counts.items() if n > MOST_MODULES_IN_A_FOLDER} == {}


def test_an_init_file_holds_no_code() -> None:
    with_code = [
        _name(file)
        for file in MODULES
        if file.name == "__init__.py"
        for node in ast.parse(file.read_text(encoding="utf-8")).body[1:]
        if not isinstance(node, ast.Import | ast.ImportFrom | ast.Assign)
    ]
    assert with_code == []


def test_a_small_module_with_one_importer_is_part_of_it() -> None:
    modules = {_name(file).removesuffix(".py").replace("/", "."): file for file in MODULES}
    importers: dict[str, set[str]] = defaultdict(set)
    for name, file in modules.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
            else:
                continue
            for target in imported:
                importers[target].add(name)
    small = [
        name
        for name, file in modules.items()
        if not name.endswith(("__init__", "__main__"))
        and len(importers[name]) == 1
        and len(file.read_text(encoding="utf-8").splitlines()) < SMALLEST_MODULE_WITH_ONE_IMPORTER
    ]
    assert small == []


def _loads(statement: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter holds after a statement."""
    report = "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", statement + report],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "package",
    ["config", "cli.main", "forge", "hardware.machine", "data.sources.load", "preflight",
     "runs.process.supervisor", "models.resolve", "api.router"],
)  # fmt: skip
def test_a_server_package_loads_neither_torch_nor_gradio(package: str) -> None:
    assert not _loads(f"import modelforge.{package}") & (HEAVY | {"gradio", "pandas"})


def test_the_page_loads_no_torch() -> None:
    loaded = _loads("import ui.app")
    assert "gradio" in loaded
    assert not loaded & HEAVY


def test_set_up_needs_nothing_that_is_installed() -> None:
    statement = "import modelforge.setup.commands, sys; print(modelforge.setup.__name__)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", statement],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "modelforge.setup\n", done.stderr


def test_every_file_with_slow_tests_is_named_in_the_documentation() -> None:
    documented = (ROOT / "docs" / "testing.md").read_text("utf-8")
    files = [path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py")]
    slow = [path for path in files if "pytest.mark.slow" in (ROOT / path).read_text("utf-8")]
    slow.remove(Path(__file__).relative_to(ROOT))  # it names the mark
    assert slow
    for path in slow:
        assert f"`{path.as_posix()}`" in documented, path


def test_every_setting_has_label_group_and_help() -> None:
    settings = field_specs()
    assert {setting.name for setting in settings} >= set(Contract.model_fields)
    for setting in settings:
        assert setting.label, setting.name
        assert setting.group, setting.name
        assert setting.help.endswith("."), setting.name
    labels = [setting.label for setting in settings]
    assert len(labels) == len(set(labels)), "two settings have the same label"


def test_every_tracker_can_be_installed_by_its_name() -> None:
    assert set(TRACKERS) <= set(PROJECT["project"]["optional-dependencies"])


def test_the_generated_pages_are_fresh() -> None:
    stale = [
        page.name
        for page, text in _script("docs").pages().items()
        if not page.is_file() or page.read_text(encoding="utf-8") != text
    ]
    assert not stale, "run `python scripts/docs.py`"


def test_every_place_that_the_docs_name_exists() -> None:
    """`path.py` and `path.py:name` in Markdown; generated pages and results are left out."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    places = [
        (page.name, match[1], match[2])
        for page in pages
        if page.name != "CHANGELOG.md"
        for match in re.finditer(
            r"`((?:modelforge|ui|tests|bench|scripts|assets|profiles)/[\w/.-]+\.(?:py|js|toml))(?::([\w.]+))?[`(]",
            page.read_text(encoding="utf-8"),
        )
    ]
    assert len(places) > 50
    missing = [
        f"{page}: {path}:{symbol}" for page, path, symbol in places if not _exists(path, symbol)
    ]
    assert missing == []


def _exists(path: str, symbol: str | None) -> bool:
    file = ROOT / path
    if not file.is_file():
        return False
    if symbol is None:
        return True
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return re.search(rf"\b{re.escape(symbol)}\b", text) is not None
    inner: Iterable[ast.stmt] = ast.parse(text).body
    for part in symbol.split("."):
        found = [node for node in inner if part in _names_defined_by(node)]
        if not found:
            return False
        inner = getattr(found[0], "body", [])
    return True


def _names_defined_by(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def test_the_changelog_begins_with_this_version() -> None:
    holds, what = _script("check").check_version()
    assert holds, what


def test_ci_runs_what_a_person_runs() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[-1] == "python launch.py test"
