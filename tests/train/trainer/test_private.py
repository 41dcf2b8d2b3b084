"""Private names of Transformers, TRL, accelerate and torch: listed, in one folder, and there."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3] / "modelforge"
HOME = ROOT / "train" / "trainer"
TORCH_PACKAGES = ("train", "modeling", "chat")
PRIVATE = re.compile(r"_[a-zA-Z]\w*")
# Public although they begin with an underscore.
PUBLIC = {"os._exit"}


def files() -> list[Path]:
    paths = [path for name in TORCH_PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
    outside = [path for path in paths if not path.is_relative_to(HOME)]
    assert outside
    return outside


def own_names(tree: ast.AST) -> set[str]:
    """Return the private names that a module defines: functions, classes, variables, attributes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            is_own = isinstance(node, ast.Name) or is_self(node.value)
            names |= {getattr(node, "id", getattr(node, "attr", ""))} if is_own else set()
    return names


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def private_uses(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and name of private attributes and imports that the module does not define."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = own_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from ((node.lineno, part) for part in parts if PRIVATE.fullmatch(part))
        elif isinstance(node, ast.Attribute) and PRIVATE.fullmatch(node.attr):
            is_foreign = node.attr not in own and ast.unparse(node) not in PUBLIC
            yield from [(node.lineno, node.attr)] if is_foreign else []


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_private_names_of_libraries_are_used_in_the_trainer_package_only(path):
    uses = list(private_uses(path))
    assert not uses, f"move these into {HOME.relative_to(ROOT.parent)}: {uses}"


def test_an_override_of_a_private_method_counts_as_a_use():
    """Strategies must not override a listed private method either."""
    listed = set(re.findall(r'"(_[a-z]\w*)"', (HOME / "private.py").read_text(encoding="utf-8")))
    assert "_tr_loss" in listed
    for path in files():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        methods = {n.name for c in classes for n in c.body if isinstance(n, ast.FunctionDef)}
        assert not methods & listed, path


def test_every_private_name_in_use_is_listed():
    text = (HOME / "private.py").read_text(encoding="utf-8")
    listed = set(re.findall(r'"(_[a-zA-Z]\w*)"', text))
    for path in sorted(HOME.glob("*.py")):
        unlisted = {name for _line, name in private_uses(path)} - listed
        assert not unlisted, f"{path.name} uses {unlisted}"


@pytest.mark.torch
def test_every_listed_name_still_exists():
    from modelforge.train.trainer.private import PRIVATE_NAMES

    missing = [
        f"{entry.owner}.{entry.name}"
        for entry in PRIVATE_NAMES
        if not exists(entry.owner, entry.name)
    ]
    assert not missing


def exists(owner: str, name: str) -> bool:
    """Return whether a module or class has the name, or its code sets it as an attribute."""
    module_name, _, rest = owner.partition(".")
    target = importlib.import_module(module_name)
    for part in rest.split(".") if rest else []:
        if not hasattr(target, part):
            importlib.import_module(f"{target.__name__}.{part}")
        target = getattr(target, part)
    if hasattr(target, name):
        return True
    if not isinstance(target, type):
        importlib.import_module(f"{target.__name__}.{name}")
        return True
    sources = [importlib.import_module(base.__module__).__file__ for base in target.__mro__[:-1]]
    return any(name in Path(source).read_text(encoding="utf-8") for source in sources if source)
