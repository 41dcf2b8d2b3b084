"""The catalogue of late refusals names every cause in the code, and where it is asked before."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import modelforge
from modelforge.config.fields import specs_by_name
from modelforge.diagnosis.classify import CATALOGUE, UNEXPECTED

PACKAGE = Path(modelforge.__file__).parent
PAGE = PACKAGE.parent / "docs" / "late-refusals.md"
# Of errors without a cause of their own (`modeling/errors.py:_CAUSES`).
GENERAL = {"data", "not-found", "run", UNEXPECTED}
_ROW = re.compile(r"\| `([\w-]+)` \| (.+?) \| (\w[\w-]*): (.+) \|")


def raised_causes() -> set[str]:
    """Return the causes of every WorkerError in the code."""
    causes = set()
    for package in ("train", "modeling", "chat"):
        for file in (PACKAGE / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "WorkerError":
                    cause = node.args[0]
                    if isinstance(cause, ast.Constant):
                        causes.add(cause.value)
                    else:
                        assert ast.unparse(cause) == "known.code", file  # of the catalogue
    return causes


def rows() -> list[tuple[str, str, str, str]]:
    lines = PAGE.read_text("utf-8").split("| --- |")[-1].splitlines()
    table = [line for line in lines if line.startswith("| `")]
    return [match.groups() for line in table if (match := _ROW.fullmatch(line))]  # type: ignore[misc]


def test_every_cause_is_in_the_table_once():
    causes = raised_causes()
    assert {"weights-not-finite", "no-room-for-answers", "start-missing"} <= causes
    listed = [cause for cause, *_rest in rows()]
    assert len(listed) == len(set(listed))
    assert set(listed) == causes | {entry.code for entry in CATALOGUE} | GENERAL


def test_every_place_that_is_named_asks():
    findings = "".join(
        file.read_text("utf-8") for file in (PACKAGE / "preflight" / "checks").glob("*.py")
    )
    for cause, what, place, how in rows():
        assert what.endswith("."), cause
        assert place in ("Preflight", "Settings", "Look-up", "Cannot"), cause
        named = re.findall(r"`([\w.-]+)`", how)
        if place == "Preflight":
            assert named, cause
            assert all(f'"{code}"' in findings for code in named), cause
        elif place == "Settings":
            assert named, cause
            assert all(name in specs_by_name() for name in named), cause
