"""Measure on a GPU what no other machine can tell, in at most nine minutes.

    python bench/gpu_session.py --out FOLDER [--only STEP …] [--minutes 9] [--play]

Needs neither network nor models: models have random weights. Each step is a process with a time
limit; a step that fails or does not end is recorded, and the next one begins. FOLDER gets
session.json, session.md and session.log, written anew after every step; SIGTERM and SIGINT end the
step and keep the results so far. `--play` runs the steps on the CPU with tiny models, to try the
script itself. Set-up on an image that has PyTorch already:

    pip install --no-deps -r requirements-gpu.txt
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.gpu_steps.limited import run_limited, stopped_by_signals  # noqa: E402
from bench.gpu_steps.record import read_record  # noqa: E402
from bench.gpu_steps.report import as_markdown  # noqa: E402

PYTHON = sys.executable
# The CPU is slow, and in play only the steps themselves are tried.
PLAY_FACTOR = 6
# A step with less time than this could not even import PyTorch.
SHORTEST_S = 5.0
TAIL_BYTES, TAIL_LINES = 20_000, 15


@dataclass(frozen=True)
class Step:
    """A step of the session: a command that writes its results to the path appended to it."""

    name: str
    title: str
    limit_s: float
    command: tuple[str, ...]


@dataclass
class Outcome:
    """The outcome of a step: done, failed, timed out, stopped or skipped, and its results."""

    name: str
    title: str
    limit_s: float
    state: str = "skipped"
    seconds: float = 0.0
    code: int | None = None
    results: dict[str, Any] = field(default_factory=dict)
    output: list[str] = field(default_factory=list)


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return (PYTHON, "-m", f"bench.gpu_steps.{name}", *arguments)


_TESTS = "tests/gpu/test_{}.py"
# The most valuable first.
STEPS = (
    Step("facts", "Versions and machine", 20, _module("facts")),
    Step(
        "gpu",
        "GPU, driver and 4-bit product",
        40,
        _module("gpu_tests", _TESTS.format("card")),
    ),
    Step("warm", "Warm worker: CUDA untouched", 25, _module("warm_worker")),
    Step(
        "matrix",
        "Methods and number formats",
        150,
        _module("gpu_tests", *map(_TESTS.format, ("formats", "matrix", "unsloth"))),
    ),
    Step("out-of-memory", "Recovery from a lack of GPU memory", 60, _module("out_of_memory")),
    Step("trial-run", "Trial run against the run itself", 60, _module("trial_run")),
    Step("memory", "Memory estimate against the peak", 65, _module("memory")),
    Step("kernels", "Attention kernels, NVML, device mask", 20, _module("kernels")),
    Step("resume", "fp16 and resume", 50, _module("resume")),
    Step("chat", "Chat and its memory", 45, _module("chat")),
)
NAMES = tuple(step.name for step in STEPS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the session; return 1 if a step has not been completed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="STEP", help=", ".join(NAMES))
    parser.add_argument("--minutes", type=float, default=9.0, help="limit of the whole session")
    parser.add_argument("--play", action="store_true", help="tiny models on the CPU")
    options = parser.parse_args(arguments)
    steps = [step for step in STEPS if not options.only or step.name in options.only]
    factor = PLAY_FACTOR if options.play else 1
    steps = [replace(step, limit_s=factor * step.limit_s) for step in steps]
    limit_s = 60 * options.minutes * factor
    outcomes = run_session(steps, options.out, limit_s, play=options.play)
    return int(any(outcome.state != "done" for outcome in outcomes))


def run_session(
    steps: Sequence[Step], out: Path, limit_s: float, *, play: bool = False, title: str = "Session"
) -> list[Outcome]:
    """Run the steps within `limit_s` seconds, and write the results to `out`.

    A terminate or interrupt signal ends the step that runs, and skips the others.
    """
    out.mkdir(parents=True, exist_ok=True)
    log = out / "session.log"
    log.write_text("", encoding="utf-8")
    deadline = time.monotonic() + limit_s
    outcomes: list[Outcome] = []
    with (
        stopped_by_signals() as stop,
        tempfile.TemporaryDirectory(prefix="modelforge-gpu-", ignore_cleanup_errors=True) as work,
    ):
        variables = environment(Path(work), play=play)
        for step in steps:
            left = min(step.limit_s, deadline - time.monotonic())
            print(f"{step.title} … ", end="", flush=True)
            outcome = run_step(step, left, Path(work), variables, stop)
            print(f"{outcome.state} ({outcome.seconds:.0f} s)", flush=True)
            outcomes.append(outcome)
            with log.open("a", encoding="utf-8") as file:
                file.write(f"== {step.name}: {outcome.state}\n" + "\n".join(outcome.output) + "\n")
            outcome.output = [] if outcome.state == "done" else outcome.output[-TAIL_LINES:]
            write_results(out, outcomes, title, play=play)
    return outcomes


def run_step(
    step: Step, limit_s: float, work: Path, variables: dict[str, str], stop: threading.Event
) -> Outcome:
    """Run one step; it is skipped when the session is stopped or its time has run out."""
    outcome = Outcome(step.name, step.title, step.limit_s)
    if stop.is_set():
        outcome.output = ["The session was stopped."]
        return outcome
    if limit_s < min(SHORTEST_S, step.limit_s):
        outcome.output = ["The time of the session has run out."]
        return outcome
    record, log = work / f"{step.name}.json", work / f"{step.name}.log"
    mark = f"{os.getpid()}-{step.name}"
    command = (*step.command, str(record))
    ended = run_limited(command, limit_s, log, variables, mark, stop.is_set)
    outcome.state, outcome.seconds, outcome.code = ended.state, ended.seconds, ended.code
    outcome.results = read_record(record)
    text = log.read_bytes()[-TAIL_BYTES:].decode("utf-8", errors="replace")
    outcome.output = text.splitlines()
    return outcome


def environment(work: Path, *, play: bool) -> dict[str, str]:
    """Return the environment of the steps: this checkout, a home in `work`, no network."""
    home = work / "home"
    home.mkdir(exist_ok=True)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    play_only = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} if play else {}
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "MODELFORGE_HOME": str(home),
        "MODELFORGE_BENCH_WORK": str(work),
        "MODELFORGE_BENCH_PLAY": str(int(play)),
        "HF_HOME": str(work / "hub"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **play_only,
    }


def write_results(out: Path, outcomes: Sequence[Outcome], title: str, *, play: bool) -> None:
    """Write session.json and session.md."""
    session = {
        "title": title,
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "python": platform.python_version(),
        "play": play,
        "seconds": round(sum(outcome.seconds for outcome in outcomes), 1),
        "steps": [asdict(outcome) for outcome in outcomes],
    }
    text = json.dumps(session, indent=1, default=str) + "\n"
    (out / "session.json").write_text(text, encoding="utf-8")
    (out / "session.md").write_text(as_markdown(session), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
