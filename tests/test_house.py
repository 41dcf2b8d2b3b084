"""The house: walls, sizes, what an import loads, and that everything explains itself."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

from modelforge.config.fields import field_specs
from modelforge.config.schema.runtime import TRACKERS

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(file for top in ("modelforge", "ui") for file in (ROOT / top).rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS = {contract["id"]: contract for contract in PROJECT["tool"]["importlinter"]["contracts"]}
LONGEST_MODULE, LONGEST_FUNCTION = 400, 40
LONGER_ALLOWED: set[str] = set()
VAGUE = {"utils", "util", "common", "core", "helpers", "helper", "manager", "misc", "lib"}
TORCH_PACKAGES = {"train", "chat", "modeling"}
HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "bitsandbytes", "accelerate", "gguf"}

# Contract → a module, and the import that it must not have.
BREACHES = {
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


def test_the_walls_stand() -> None:
    done = _lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_wall_has_a_breach_that_tries_it() -> None:
    assert set(BREACHES) == set(CONTRACTS)


@pytest.mark.parametrize("wall", sorted(BREACHES))
def test_a_breach_of_the_wall_is_noticed(wall: str, copied: Path) -> None:
    name, line = BREACHES[wall]
    module = copied / name
    before = module.read_text(encoding="utf-8")
    module.write_text(f"{before}\n{line}\n", encoding="utf-8")
    try:
        done = _lint_imports(copied, "--contract", wall)
    finally:
        module.write_text(before, encoding="utf-8")
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{CONTRACTS[wall]['name']} BROKEN" in done.stdout


def test_every_room_has_its_place_in_the_walls() -> None:
    rooms = {
        f"modelforge.{path.stem}"
        for path in (ROOT / "modelforge").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").is_file())
        and not path.name.startswith("__")
    }
    light = rooms - {f"modelforge.{room}" for room in TORCH_PACKAGES}
    placed = {
        name.strip(" ()") for layer in CONTRACTS["layers"]["layers"] for name in layer.split("|")
    }
    assert light - placed == set()
    assert light - set(CONTRACTS["torch"]["source_modules"]) == set()


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_module_is_of_a_readable_size_and_says_what_it_is(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    name = file.relative_to(ROOT).as_posix()
    assert len(text.splitlines()) <= LONGEST_MODULE or name in LONGER_ALLOWED
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "it opens with no sentence"
    too_long = [
        f"{node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno
        and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert not too_long


def test_no_room_has_a_vague_name() -> None:
    named = {part for file in MODULES for part in (*file.relative_to(ROOT).parts[:-1], file.stem)}
    assert not named & VAGUE


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
    "room",
    [
        "config",
        "cli",
        "forge",
        "hardware",
        "data",
        "preflight",
        "runs.process.supervisor",
        "models",
    ],
)
def test_a_light_room_loads_neither_torch_nor_gradio(room: str) -> None:
    assert not _loads(f"import modelforge.{room}") & (HEAVY | {"gradio", "pandas"})


def test_the_face_loads_no_torch() -> None:
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


def test_every_setting_explains_itself() -> None:
    settings = field_specs()
    assert len(settings) >= 33
    for setting in settings:
        assert setting.label, setting.name
        assert setting.group, setting.name
        assert setting.help.endswith("."), setting.name
    labels = [setting.label for setting in settings]
    assert len(labels) == len(set(labels)), "a label stands for two settings"


def test_every_tracker_can_be_added_by_its_name() -> None:
    assert set(TRACKERS) <= set(PROJECT["project"]["optional-dependencies"])


def test_the_generated_pages_are_fresh() -> None:
    stale = [
        page.name
        for page, text in _script("docs").pages().items()
        if not page.is_file() or page.read_text(encoding="utf-8") != text
    ]
    assert not stale, "run `python scripts/docs.py`"


def test_the_changelog_begins_with_this_version() -> None:
    holds, what = _script("check").check_version()
    assert holds, what


def test_ci_runs_what_a_person_runs() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[-1] == "python launch.py test"
