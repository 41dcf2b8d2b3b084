"""Run the tests of the GPU lane on this machine's card and record what came of them.

python bench/gpu.py

Writes bench/results/gpu.json and the section of docs/performance.md. Without a card nothing is
written: what has not been run is not claimed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "bench" / "results" / "gpu.json"
PAGE = ROOT / "docs" / "performance.md"
TITLE = "## On a GPU (`bench/gpu.py`)"
PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "torchao", "unsloth")
NAMES = {"PASSED": "passed", "FAILED": "failed", "SKIPPED": "skipped", "ERROR": "failed"}


def main() -> int:
    """Run the lane, keep what it measured, and write the section."""
    sys.path.insert(0, str(ROOT))
    from modelforge.hardware.machine import probe_machine

    machine = probe_machine(ROOT)
    if not machine.gpus:
        print(f"Nothing is written: {machine.gpu_note}")
        return 1
    card = machine.gpus[0]
    began = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "measured.json"
        outcomes, output = run(record)
        cells = json.loads(record.read_text("utf-8")) if record.exists() else []
    print(output)
    can = card.compute_capability
    result = {
        "date": f"{began:%Y-%m-%d}",
        "card": card.name,
        "total_gib": card.total_gib,
        "capability": f"{can[0]}.{can[1]}" if can else "unknown",
        "driver": card.driver,
        "system": machine.system,
        "versions": {name: found for name in PACKAGES if (found := installed(name))},
        "outcomes": outcomes,
        "skips": [line for line in output.splitlines() if line.startswith("SKIPPED")],
        "cells": cells,
    }
    FILE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_section()
    return int(outcomes.get("failed", 0) > 0)


def run(record: Path) -> tuple[dict[str, int], str]:
    """Run the lane; return how many passed, failed and were skipped, and what pytest printed."""
    call = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", "-v", "-rs", "--no-header"]
    env = os.environ | {"MODELFORGE_GPU_RECORD": str(record)}
    done = subprocess.run(call, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    outcomes: dict[str, int] = {}
    for line in done.stdout.splitlines():
        said = line.split()
        # The summary at the end begins with the word and repeats what stands above it.
        if len(said) > 1 and "::" in said[0] and (word := next(filter(NAMES.get, said), None)):
            outcomes[NAMES[word]] = outcomes.get(NAMES[word], 0) + 1
    return outcomes, done.stdout + done.stderr


def section() -> list[str]:
    """Return the section of the page, or nothing where no card has been measured."""
    if not FILE.exists():
        return []
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    counts = ", ".join(f"{number} {name}" for name, number in sorted(found["outcomes"].items()))
    rows = [
        f"| {cell['cell']} | {'yes' if cell['worked'] else 'no'} | {cell.get('precision', '')} "
        f"| {cell['seconds']} | {cell.get('peak_gib', '')} |"
        for cell in found["cells"]
    ]
    measured = (
        f"Measured {found['date']} on one {found['card']} ({found['total_gib']:.0f} GiB, compute "
        f"capability {found['capability']}, driver {found['driver']}), {found['system']}; "
        f"{versions}."
    )
    how = (
        f"`python -m pytest -m gpu tests/gpu`: {counts}. Tiny models of random weights, one update "
        "each, in a process of its own: what works, not how fast."
    )
    return [
        TITLE,
        "",
        measured,
        "",
        how,
        "",
        "| cell | works | precision | whole process, s | held on the card, GiB |",
        "|---|---|---|---|---|",
        *rows,
        "",
        *(f"- {line}" for line in found["skips"]),
        "",
    ]


def write_section() -> None:
    """Put the section into the page, in place of the one that was there."""
    text = PAGE.read_text("utf-8") if PAGE.exists() else ""
    head, _, rest = text.partition(TITLE)
    after = rest.find("\n## ")
    tail = rest[after + 1 :] if after >= 0 else ""
    parts = [head.rstrip(), "\n".join(section()).rstrip(), tail.rstrip()]
    PAGE.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def installed(package: str) -> str | None:
    """Return the version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
