"""Write docs/performance.md from the stored figures; run the named benchmarks first.

    python bench/report.py                      write the page from the stored figures
    python bench/report.py start recommended    run these two, then write the page
    python bench/report.py all                  run all, then write the page

All take an hour and a quarter on an idle machine. Each can also be run alone with fewer rounds.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import ROOT

# In the order of the page: a module with `main()` and `section()`, and its time on two idle cores.
BENCHES = {
    "start": ("start", "1 min"),
    "form": ("form", "1 min"),
    "training": ("training", "6 min; 5 rounds, up to 10 if some are spoiled"),
    "recommended": ("recommended", "25 min; 5 rounds of 5 programs, up to 10 if some are spoiled"),
    "llama_factory": (
        "peers.llama_factory",
        "9 min; 3 rounds; the first run makes its environment, 2 GB",
    ),
    "soup": ("peers.soup", "9 min; 3 rounds; the first run makes its environment, 2 GB"),
    "memory": ("memory", "see its docstring"),
    "time_left": ("time_left", "see its docstring"),
    "export": ("export", "5 min; `--shape 1.7B` takes 20 GB of disk and 10 min more"),
}
HEAD = """# Performance

Written by `python bench/report.py` from the raw figures in `bench/results/`; run one benchmark
again with `python bench/report.py NAME`. Figures are medians, with minimum and maximum in brackets.
Compared programs ran interleaved on one machine; on a shared machine only ratios are meaningful."""

ON_A_GPU = """## On a GPU (`bench/gpu_session.py`)

Not measured yet. One session takes at most nine minutes on a data-centre GPU and needs neither
network nor models:

```bash
pip install --no-deps -r requirements-gpu.txt     # on an image that has PyTorch already
python bench/gpu_session.py --out FOLDER
python bench/gpu_unsloth.py --out FOLDER          # four minutes; Unsloth is left out if missing
```

Its ten steps, each with a time limit: versions and driver; the GPU tests (methods, number formats,
attention), eight processes at a time; whether a warm worker leaves CUDA alone; recovery from a lack
of GPU memory; a trial run against the run; the memory estimate against the peak; attention kernels;
fp16 and resume; chat. The results are `session.json`, `session.md` and `session.log`; SIGTERM and
SIGINT end the step and keep them. With `--play`
the steps run on the CPU with tiny models, to try the scripts themselves."""


def main(names: list[str]) -> None:
    """Run the named benchmarks, and write the page."""
    if names == ["all"]:
        names = list(BENCHES)
    unknown = set(names) - set(BENCHES)
    if unknown:
        sys.exit(f"Unknown: {', '.join(sorted(unknown))}. Choose from {', '.join(BENCHES)}.")
    for name in names:
        print(f"== {name}", flush=True)
        importlib.import_module(BENCHES[name][0]).main()
    text = page()
    (ROOT / "docs" / "performance.md").write_text(text, encoding="utf-8")
    print(text)


def page() -> str:
    """Return the page with the section of every benchmark that has figures."""
    parts = [HEAD]
    for module, _time in _available():
        lines = importlib.import_module(module).section()
        if lines:
            parts.append("\n".join(lines).strip())
    return "\n\n".join([*parts, ON_A_GPU, _commands()]) + "\n"


def _available() -> list[tuple[str, str]]:
    return [(module, time) for module, time in BENCHES.values() if find_spec(module) is not None]


def _commands() -> str:
    rows = [
        f"| `python bench/{module.replace('.', '/')}.py` | {time} |"
        for module, time in _available()
    ]
    return "\n".join(["## Commands", "", "| command | time |", "| --- | --- |", *rows])


if __name__ == "__main__":
    main(sys.argv[1:])
