"""What several GPUs and many runs cost: processes of one run, followed runs, and a long queue.

    python bench/scale.py ranks            one process against two that train together
    python bench/scale.py follow           relays of 1, 10 and 100 runs that train elsewhere
    python bench/scale.py queue            1,000 runs on 50 GPUs that are only waited for

Each part writes its raw figures to `bench/results/scale-PART.csv`; `docs/scale.md` explains them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
from harness import keep, own_home, recorded, trained

from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.atomic_files import write_json
from modelforge.runs.layout import RunFolder
from modelforge.runs.process import supervisor
from modelforge.runs.process.launch import Launch, Target, write_launch
from modelforge.runs.store import NewRun, Store

HERE = Path(__file__).resolve().parent
# A stand-in for squeue: every job runs.
SQUEUE = "#!/bin/sh\necho 'RUNNING|None'\n"
FOLLOWED = (1, 10, 100)
FOLLOW_S, STEP_S = 30.0, 1.0
RUNS, GPUS, MEAN_S = 1000, 50, 20.0
SETTINGS = {
    "task": "text-generation",
    "strategy": "sft",
    "model_name": "starter",
    "dataset": "sample:units",
    "compute_specs": "low_end",
    "use_4bit": False,
    "max_steps": 24,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "lora_dropout": 0.0,
    "eval_split": 0.1,
    "eval_steps": 10_000,
    "evaluation": {"samples": 0, "keep_best": False, "row_losses": False},
}


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("ranks", "follow", "queue"))
    parser.add_argument("--rounds", type=int, default=3, help="of ranks")
    parser.add_argument("--runs", type=int, default=RUNS, help="of the queue")
    parser.add_argument("--gpus", type=int, default=GPUS, help="of the queue")
    parser.add_argument("--mean", type=float, default=MEAN_S, help="seconds of a run of the queue")
    options = parser.parse_args()
    with recorded(f"scale-{options.part}"):
        if options.part == "ranks":
            rows = ranks(options.rounds)
        elif options.part == "follow":
            rows = [follow(count) for count in FOLLOWED]
        else:
            rows = [queue(options.runs, options.gpus, options.mean)]
    keep(f"scale-{options.part}", rows)
    for row in rows:
        print(json.dumps(row), flush=True)


# One run on several processes


def ranks(rounds: int) -> list[dict[str, Any]]:
    """Train with one process and with two, in changing order; one row for each training."""
    ways = {"one": {}, "ddp": {"gpus": 2, "sharding": "ddp"}}
    ways["fsdp2"] = {"gpus": 2, "sharding": "fsdp2"}
    rows = []
    for number in range(rounds):
        order = list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]
        rows += [_trained_on(number, way, ways[way]) for way in order]
    return rows


def _trained_on(number: int, way: str, hardware: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        home = own_home(Path(temporary) / "home")
        place = {"device": "cpu", **hardware}
        events = trained(home, SETTINGS | {"hardware": place, "trainer": {"seed": number}})
    steps = [event.data for event in events if event.kind == "step"]
    # The first step also reads files and allocates memory.
    seconds = sum(step["seconds"] for step in steps[1:])
    tokens = sum(step["tokens"] for step in steps[1:])
    return {
        "round": number,
        "way": way,
        "tokens": tokens,
        "seconds": round(seconds, 2),
        "tokens_per_s": round(tokens / seconds, 1),
        "first_loss": round(steps[0]["loss"], 5),
        "last_loss": round(steps[-1]["loss"], 5),
    }


# Runs that are followed


def follow(count: int) -> dict[str, Any]:
    """Follow so many runs at a target, each of which writes a line a second, and return the cost.

    The target is a cluster whose squeue is a stand-in; relays and server are the real ones.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        home, far = own_home(folder / "home"), folder / "far"
        with _program(folder / "bin", "squeue", SQUEUE):
            forge = Forge(home)
            try:
                target = Target("cluster", "slurm", f"all{far}", slots=1000)
                run = _prepared(forge, target)
                runs = [_remote_run(home, run, target, number) for number in range(count)]
                return _followed(forge, runs, far)
            finally:
                forge.close()
                _end_relays(home)


def _prepared(forge: Forge, target: Target) -> NewRun:
    """Return a run for a target, which the home then knows with the hardware of this computer."""
    stored = {**asdict(target), "machine": asdict(forge.machine.current()), "checked": 0.0}
    write_json(forge.home.targets, {"format": 1, "targets": [stored]})
    return forge.queue._launcher.prepare(Layer("bench", SETTINGS), on=target.name)


def _remote_run(home: Home, run: NewRun, target: Target, number: int) -> RunFolder:
    """Return a run that was submitted already, with a folder there."""
    folder = Store(home).create(replace(run, name=f"run {number}"))
    far = target.address.removeprefix("all")
    Path(far, "runs", folder.id).mkdir(parents=True)
    launch = Launch(target, job=folder.id, id=str(number + 1), home=far, submitted=time.time())
    write_launch(folder.launch, launch)
    return folder


def _followed(forge: Forge, runs: Sequence[RunFolder], far: Path) -> dict[str, Any]:
    watcher = forge._supervisor
    for folder in runs:
        watcher.start(folder)
    writer = _Writer(far, [folder.id for folder in runs])
    # Relays import and connect first.
    deadline = time.monotonic() + 20 + 0.5 * len(runs)
    while time.monotonic() < deadline and not all(_lines(folder) for folder in runs):
        writer.write_due()
        time.sleep(0.1)
    relays = [relay for relay in _relays(forge.home) if relay.is_running()]
    before, tends, lags = [_cpu_s(relay) for relay in relays], [], []
    began = time.monotonic()
    while time.monotonic() - began < FOLLOW_S:
        writer.write_due()
        start = time.process_time()
        forge.tend()
        tends.append(time.process_time() - start)
        lags += [writer.written - _lines(folder) for folder in runs]
        time.sleep(0.5)
    seconds = time.monotonic() - began
    used = [_cpu_s(relay) - first for relay, first in zip(relays, before, strict=True)]
    return {
        "runs": len(runs),
        "relays": len(relays),
        "seconds": round(seconds, 1),
        "cores_of_all_relays": round(sum(used) / seconds, 3),
        "cores_of_one_relay": round(statistics.mean(used) / seconds, 4),
        "mib_of_one_relay": round(statistics.mean(_unique_mib(relay) for relay in relays), 1),
        "server_ms_per_tend": round(1000 * statistics.median(tends), 1),
        "lines_behind_median": statistics.median(lags),
        "lines_behind_most": max(lags),
    }


class _Writer:
    """The jobs there: each writes one event a second."""

    def __init__(self, far: Path, runs: Sequence[str]) -> None:
        self._files = [far / "runs" / run / "events.jsonl" for run in runs]
        self._began = time.monotonic()
        self.written = 0

    def write_due(self) -> None:
        """Write the events that are due."""
        while time.monotonic() - self._began > self.written * STEP_S:
            self.written += 1
            step = {"step": self.written, "total": 10_000, "loss": 2.0, "tokens": 512}
            event = {"n": self.written, "t": time.time(), "kind": "step", "data": step}
            for path in self._files:
                with path.open("a") as file:
                    file.write(json.dumps(event) + "\n")


def _lines(folder: RunFolder) -> int:
    return folder.events.read_bytes().count(b"\n") if folder.events.exists() else 0


def _relays(home: Home) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "modelforge.launchers" in words and str(home.runs) in words[-1]:
            found.append(process)
    return found


def _end_relays(home: Home) -> None:
    for process in _relays(home):
        process.kill()
    psutil.wait_procs(_relays(home), timeout=10)


def _cpu_s(process: psutil.Process) -> float:
    """Return the processor seconds of a process and of the programs that it has started."""
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def _unique_mib(process: psutil.Process) -> float:
    return float(process.memory_full_info().uss / 2**20)


@contextmanager
def _program(folder: Path, name: str, text: str) -> Iterator[None]:
    """Put a program in front of the search path."""
    folder.mkdir(parents=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


# A long queue


def queue(runs: int, gpus: int, mean_s: float) -> dict[str, Any]:
    """Let the queue start runs on a target with so many GPUs, which only wait, until all are over.

    Queue, store and supervisor are the real ones; a stand-in takes the place of each relay.
    """
    draw = random.Random(1)
    durations = [min(draw.lognormvariate(0, 0.8) * mean_s * 0.73, 5 * mean_s) for _ in range(runs)]
    with tempfile.TemporaryDirectory() as temporary:
        home = own_home(Path(temporary) / "home")
        stand_in = (sys.executable, "-I", str(HERE / "stand_in_relay.py"))
        supervisor.RELAY = stand_in
        forge = Forge(home)
        try:
            run = _prepared(forge, Target("cluster", "slurm", "all", slots=gpus))
            for number, seconds in enumerate(durations):
                about = {"seconds": str(seconds)}
                Store(home).create(replace(run, name=f"run {number}", metadata=about))
            return _worked(forge, runs) | _bound(durations, gpus)
        finally:
            forge.close()
            subprocess.run(["pkill", "-f", str(home.root)], check=False)


def _worked(forge: Forge, runs: int) -> dict[str, Any]:
    began, cpu = time.monotonic(), time.process_time()
    starts: list[float] = []
    while _finished(forge.home) < runs:
        for _ in range(4):
            start = time.monotonic()
            forge.tend()
            starts.append(time.monotonic() - start)
            time.sleep(0.25)
    return {
        "runs": runs,
        "makespan_s": round(time.monotonic() - began, 1),
        "server_cpu_s": round(time.process_time() - cpu, 1),
        "longest_tend_s": round(max(starts), 2),
    }


def _finished(home: Home) -> int:
    """Return how many runs are over, from the records of their relays."""
    records = (path.read_text() for path in home.runs.glob("*/launch.json"))
    return sum('"is_over": true' in text for text in records)


def _bound(durations: Sequence[float], gpus: int) -> dict[str, Any]:
    """Return the least time in which so many GPUs can do the runs."""
    least = max(sum(durations) / gpus, *durations)
    return {"gpus": gpus, "bound_s": round(least, 1), "work_s": round(sum(durations), 1)}


if __name__ == "__main__":
    main()
