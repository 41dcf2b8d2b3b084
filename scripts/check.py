"""Check everything: format, lint, walls, types, the default lane, generated pages, the version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_LANE = "not torch and not browser and not gpu"
WALLS = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"
STEPS: tuple[tuple[str, list[str]], ...] = (
    ("format", ["-m", "ruff", "format", "--check", "."]),
    ("lint", ["-m", "ruff", "check", "."]),
    ("walls", ["-c", WALLS]),
    ("types", ["-m", "mypy"]),
    ("tests", ["-m", "pytest", "-q", "-n", "auto", "-m", DEFAULT_LANE]),
    ("docs", ["scripts/docs.py", "--check"]),
    ("js types", ["scripts/js_types.py", "--check"]),
)
TYPESCRIPT = "typescript@5.9"


def main() -> int:
    """Do every step, whatever the others say; 1 if any of them failed."""
    failed = []
    for name, arguments in STEPS:
        if not _report(name, *_call([sys.executable, *arguments])):
            failed.append(name)
    if not _report("js", *check_javascript()):
        failed.append("js")
    if not _report("version", *check_version(), 0.0):
        failed.append("version")
    print(f"\nFailed: {', '.join(failed)}." if failed else "\nEverything holds.")
    return int(bool(failed))


def check_version() -> tuple[bool, str]:
    """Say whether the changelog's newest entry is the version of the package."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    package = (ROOT / "modelforge" / "__init__.py").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    version = re.search(r'^__version__ = "(.+)"', package, re.MULTILINE)
    said, is_so = newest and newest[1], version and version[1]
    return said == is_so, f"CHANGELOG.md begins with {said}, the package is {is_so}."


def check_javascript() -> tuple[bool, str, float]:
    """Check the types of assets/js with TypeScript, where Node.js is installed."""
    if tsc := shutil.which("tsc"):
        command = [tsc]
    elif npx := shutil.which("npx"):
        command = [npx, "--yes", "--package", TYPESCRIPT, "tsc"]
    else:
        print("skip  js: Node.js is not installed")
        return True, "", 0.0
    passed, output, seconds = _call([*command, "--project", "assets/js/jsconfig.json"])
    if not passed and "error TS" not in output:
        print("skip  js: TypeScript cannot be downloaded")
        return True, output, seconds
    return passed, output, seconds


def _call(command: list[str]) -> tuple[bool, str, float]:
    began = time.monotonic()
    env = os.environ | {"PYTHONPATH": str(ROOT)}  # a checkout that is not installed will do
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stdout + done.stderr, time.monotonic() - began


def _report(name: str, holds: bool, output: str, seconds: float) -> bool:
    print(f"{'ok  ' if holds else 'FAIL'}  {name:<8} {seconds:6.1f} s", flush=True)
    if not holds:
        print(output.rstrip() + "\n", flush=True)
    return holds


if __name__ == "__main__":
    sys.exit(main())
