"""Write docs/performance.md from what the benches have kept; measure those that are named first.

    python bench/report.py                      the page, from the figures that are there
    python bench/report.py start recommended    these two measured again, then the page
    python bench/report.py all                  every bench but that of the GPU, then the page

The quiet machine: an hour for all. Each bench can be run alone, too, with fewer rounds.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import ROOT

# In the order of the page: the module, which has `main()` and `section()`, and about how long it
# takes on two idle cores.
BENCHES = {
    "start": ("start", "1 min"),
    "training": ("training", "5 min"),
    "recommended": ("recommended", "9 min"),
    "llama_factory": ("peers.llama_factory", "5 min; first its environment, 2 GB"),
    "memory": ("memory", "see there"),
    "time_left": ("time_left", "see there"),
    "gpu": ("gpu", "a card; see there"),
}
HEAD = """# Performance

Written by `python bench/report.py` from the raw figures in `bench/results/`; one bench is measured
again with `python bench/report.py NAME`. Medians, with the least and the most in brackets. What is
compared was run interleaved, in one go, on one machine; on a shared machine only the ratios mean
something."""


def main(names: list[str]) -> None:
    """Measure the benches that are named, and write the page."""
    if names == ["all"]:
        names = [name for name in BENCHES if name != "gpu"]
    unknown = set(names) - set(BENCHES)
    if unknown:
        sys.exit(f"There is no bench {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}.")
    for name in names:
        print(f"== {name}", flush=True)
        importlib.import_module(BENCHES[name][0]).main()
    text = page()
    (ROOT / "docs" / "performance.md").write_text(text, encoding="utf-8")
    print(text)


def page() -> str:
    """Return the page: the section of every bench that has been measured."""
    parts = [HEAD]
    for module, _time in _there():
        lines = importlib.import_module(module).section()
        if lines:
            parts.append("\n".join(lines).strip())
    return "\n\n".join([*parts, _how()]) + "\n"


def _there() -> list[tuple[str, str]]:
    return [(module, time) for module, time in BENCHES.values() if find_spec(module) is not None]


def _how() -> str:
    rows = [
        f"| `python bench/{module.replace('.', '/')}.py` | {time} |" for module, time in _there()
    ]
    return "\n".join(["## To measure again", "", "| command | takes |", "| --- | --- |", *rows])


if __name__ == "__main__":
    main(sys.argv[1:])
