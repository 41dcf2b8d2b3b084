"""Run the GPU tests on this machine and record the results.

python bench/gpu.py

Writes bench/results/gpu.json and the section of docs/performance.md; nothing without a GPU.
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
    """Run the tests, store the results, and write the section."""
    sys.path.insert(0, str(ROOT))
    from modelforge.hardware.machine import probe_machine

    machine = probe_machine(ROOT)
    if not machine.gpus:
        print(f"Nothing written: {machine.gpu_note}")
        return 1
    gpu = machine.gpus[0]
    began = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "measured.json"
        outcomes, output = run(record)
        cells = json.loads(record.read_text("utf-8")) if record.exists() else []
    print(output)
    capability = gpu.compute_capability
    result = {
        "date": f"{began:%Y-%m-%d}",
        "card": gpu.name,
        "total_gib": gpu.total_gib,
        "capability": f"{capability[0]}.{capability[1]}" if capability else "unknown",
        "driver": gpu.driver,
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
    """Run the tests; return the counts of outcomes and the output of pytest."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", "-v", "-rs", "--no-header"]
    env = os.environ | {"MODELFORGE_GPU_RECORD": str(record)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    outcomes: dict[str, int] = {}
    for line in done.stdout.splitlines():
        words = line.split()
        # The summary at the end begins with the outcome and repeats lines above.
        if len(words) < 2 or "::" not in words[0]:
            continue
        for word in words:
            if word in NAMES:
                outcomes[NAMES[word]] = outcomes.get(NAMES[word], 0) + 1
                break
    return outcomes, done.stdout + done.stderr


def section() -> list[str]:
    """Return the section of docs/performance.md; empty if no GPU was measured."""
    if not FILE.exists():
        return []
    result: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    counts = ", ".join(f"{number} {name}" for name, number in sorted(result["outcomes"].items()))
    rows = [
        f"| {cell['cell']} | {'yes' if cell['worked'] else 'no'} | {cell.get('precision', '')} "
        f"| {cell['seconds']} | {cell.get('peak_gib', '')} |"
        for cell in result["cells"]
    ]
    measured = (
        f"Measured {result['date']} on one {result['card']} ({result['total_gib']:.0f} GiB, "
        f"compute capability {result['capability']}, driver {result['driver']}), "
        f"{result['system']}; {versions}."
    )
    how = (
        f"`python -m pytest -m gpu tests/gpu`: {counts}. Tiny models of random weights, one step "
        "each, in a process of its own: they show what works, not how fast."
    )
    return [
        TITLE,
        "",
        measured,
        "",
        how,
        "",
        "| cell | works | precision | whole process, s | GPU memory, GiB |",
        "|---|---|---|---|---|",
        *rows,
        "",
        *(f"- {line}" for line in result["skips"]),
        "",
    ]


def write_section() -> None:
    """Replace the section in the page."""
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
