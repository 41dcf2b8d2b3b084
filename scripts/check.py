"""Run all checks: format, lint, import contracts, types, tests, generated pages, site, version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_LANE = "not torch and not browser and not gpu and not slow"
CONTRACTS = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"
STEPS: tuple[tuple[str, list[str]], ...] = (
    ("format", ["-m", "ruff", "format", "--check", "."]),
    ("lint", ["-m", "ruff", "check", "."]),
    ("imports", ["-c", CONTRACTS]),
    ("types", ["-m", "mypy"]),
    ("tests", ["-m", "pytest", "-q", "-n", "auto", "-m", DEFAULT_LANE]),
    ("docs", ["scripts/docs.py", "--check"]),
    ("js types", ["scripts/js_types.py", "--check"]),
    ("site", ["scripts/docs.py", "site"]),
)
# Steps that `--quick` leaves out.
SLOW = ("tests", "site")
TYPESCRIPT = "typescript@5.9"


def main(arguments: Sequence[str]) -> int:
    """Run every step, also after a failure; return 1 if any failed."""
    skipped = SLOW if "--quick" in arguments else ()
    failed = []
    for name, command in STEPS:
        if name in skipped:
            continue
        if not _report(name, *_call([sys.executable, *command])):
            failed.append(name)
    if not _report("js", *check_javascript()):
        failed.append("js")
    if not _report("version", *check_version(), 0.0):
        failed.append("version")
    print(f"\nFailed: {', '.join(failed)}." if failed else "\nAll checks passed.")
    return int(bool(failed))


def check_version() -> tuple[bool, str]:
    """Check that the newest released version in the changelog is that of the package."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    package = (ROOT / "modelforge" / "__init__.py").read_text(encoding="utf-8")
    newest = re.search(r"^## (?!Unreleased)(\S+)", changelog, re.MULTILINE)
    version = re.search(r'^__version__ = "(.+)"', package, re.MULTILINE)
    changed, packaged = newest and newest[1], version and version[1]
    return changed == packaged, f"CHANGELOG.md has {changed}, the package has {packaged}."


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
    started = time.monotonic()
    env = os.environ | {"PYTHONPATH": str(ROOT)}  # also works if not installed
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    return result.returncode == 0, result.stdout + result.stderr, time.monotonic() - started


def _report(name: str, passed: bool, output: str, seconds: float) -> bool:
    print(f"{'ok  ' if passed else 'FAIL'}  {name:<8} {seconds:6.1f} s", flush=True)
    if not passed:
        print(output.rstrip() + "\n", flush=True)
    return passed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
