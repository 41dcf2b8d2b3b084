"""Run every bench and write docs/performance.md.

python bench/report.py
"""

from __future__ import annotations

from datetime import UTC, datetime

import gpu
import start
import training
from harness import ROOT, conditions

HEAD = """# Performance

Written by `python bench/report.py`; the raw figures lie in `bench/results/`. Medians, with the
least and the most in brackets. What is compared was run interleaved, in one go, on one machine;
on a shared machine only the ratios mean something.
"""


def main() -> None:
    """Measure, and write the page."""
    before = conditions()
    page_lines = start.main()
    run_lines = training.main()
    text = "\n".join(
        [
            HEAD,
            f"Measured {datetime.now(UTC):%Y-%m-%d} on {before}.",
            "",
            "## The app (`bench/start.py`)",
            "",
            *page_lines,
            "",
            "## A run (`bench/training.py`)",
            "",
            "The starter model, LoRA r 16, batch 4 × 128 tokens, fp32, the same rows and settings.",
            "",
            *run_lines,
            "",
            *gpu.section(),
        ]
    )
    (ROOT / "docs" / "performance.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
