"""Compare estimated with real duration, before the start and during the run.

python bench/time_left.py [STEPS]          trial run and training, four kinds of settings
python bench/time_left.py RUN_FOLDER ...   errors of finished runs, from their events
"""

from __future__ import annotations

import csv
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import RESULTS, conditions, keep, own_home

from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.runs.atomic_files import find_json, read_json
from modelforge.runs.events import read_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.progress.eta import EtaEstimator, Schedule
from modelforge.runs.progress.timings import StepTimings

SHARES = (0.1, 0.5)
AIMS = {"before_start": 0.30, "at_10": 0.15, "at_50": 0.05}
COMMON = {
    "task": "text-generation",
    "model_name": "starter",
    "dataset": "sample:captain",
    "compute_specs": "low_end",
    "use_4bit": False,
    "gradient_checkpointing": False,
    "learning_rate": 5e-4,
    "optim": "adamw_torch",
    "max_seq_length": 128,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "per_device_eval_batch_size": 2,
    "eval_split": 0.1,
}
CASES: dict[str, dict[str, Any]] = {
    "random order": {"group_by_length": False},
    "grouped by length": {"group_by_length": True},
    "packed": {"packing": True, "per_device_train_batch_size": 1},
    "gradient checkpointing": {"gradient_checkpointing": True, "group_by_length": False},
}


def main(steps: int = 60) -> list[str]:
    """Make a trial run and train every case once; return the lines of the report."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="modelforge-time-left-") as folder:
        home = own_home(Path(folder))
        forge = Forge(home)
        try:
            for name, case in CASES.items():
                settings = COMMON | case | {"max_steps": steps, "eval_steps": max(1, steps // 4)}
                rows.append({"case": name} | _case(forge, settings))
                print(rows[-1], flush=True)
        finally:
            forge.close()
    keep("time_left", rows)
    return lines()


def section() -> list[str]:
    """Return the section of docs/performance.md."""
    if not (RESULTS / "time_left.csv").is_file():
        return []
    return ["## Time left (`bench/time_left.py`)", "", *lines(), ""]


def lines() -> list[str]:
    """Return the lines of the report from the stored figures."""
    with (RESULTS / "time_left.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table = [
        "| settings | run, s | trial run, s | estimate before the start | at 10 % | at 50 % |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        errors = " | ".join(_percent(row[name]) for name in AIMS)
        table.append(f"| {row['case']} | {row['seconds']} | {row['trial_run_s']} | {errors} |")
    for name, title in (
        ("before_start", "Estimate before the start, with a trial run"),
        ("at_10", "Time left at 10 % of the steps"),
        ("at_50", "Time left at 50 %"),
    ):
        errors_found = [abs(float(row[name])) for row in rows if row[name]]
        if errors_found:
            table.append(
                f"- {title}: median error {statistics.median(errors_found):.1%}, at most "
                f"{max(errors_found):.1%} "
                f"(aim ≤ {AIMS[name]:.0%})"
            )
    return table


def errors_of(folder: RunFolder) -> dict[str, Any]:
    """Return the relative errors of the estimates of a finished run.

    Before the start they refer to the whole run since its launch, later to the remaining time.
    """
    record, report = read_json(folder.config), find_json(folder.preflight) or {}
    process = find_json(folder.process) or {}
    events, _ = read_events(folder.events)
    over = events[-1].t
    launched = float(process.get("launched") or events[0].t)
    errors: dict[str, Any] = {"seconds": round(over - launched, 1)}
    if report.get("seconds"):
        errors["before_start"] = round(report["seconds"] / (over - launched) - 1, 4)
    timings = StepTimings()
    eta = EtaEstimator(
        timings, Schedule.of(record["config"], record["plan"]), report.get("trial_run")
    )
    shares = list(SHARES)
    for event in events:
        timings.add(event.t, event.event)
        share = timings.step / timings.total_steps if timings.total_steps else 0.0
        if event.kind == "step" and shares and share >= shares[0]:
            left = eta.seconds_left()
            name = f"at_{round(100 * shares.pop(0))}"
            errors[name] = None if left is None else round(left / (over - event.t) - 1, 4)
    return errors


def _case(forge: Forge, settings: dict[str, Any]) -> dict[str, Any]:
    layer = Layer("bench", settings)
    began = time.time()
    trial_run = forge.trial_runs.start(layer)
    _await(lambda: forge.trial_runs.view(trial_run).state.is_over)
    measured = forge.trial_runs.view(trial_run).trial_run
    if measured is None:
        raise RuntimeError(str(forge.trial_runs.view(trial_run)))
    trial_seconds = time.time() - began
    _await(lambda: forge.trial_runs.active() is None)
    time.sleep(1.0)
    run = forge.runs.start(layer)
    _await(lambda: forge.runs.state(run).is_over)
    errors = errors_of(forge.runs.folder(run))
    view = forge.runs.view(run)
    if view.state != "finished":
        raise RuntimeError(forge.runs.log(run))
    details = {
        "updates": view.step,
        "trial_run_s": round(trial_seconds, 1),
        "peak_gib": measured.peak_gib,
        "seconds_per_update": measured.seconds_per_update,
    }
    return {"seconds": errors["seconds"], **{name: errors.get(name) for name in AIMS}, **details}


def _await(holds: Any) -> None:
    while not holds():
        time.sleep(0.2)


def _percent(value: str) -> str:
    return f"{float(value):+.1%}" if value else "–"


if __name__ == "__main__":
    folders = [Path(word) for word in sys.argv[1:] if not word.isdecimal()]
    for each in folders:
        print(json.dumps({"run": each.name} | errors_of(RunFolder(each))))
    if not folders:
        print(conditions())
        print("\n".join(main(*(int(word) for word in sys.argv[1:]))))
