"""Compare a trial run with the run it predicts, at 16 accumulation steps."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import asdict
from typing import Any

from bench.gpu_steps.record import Record, run_step
from bench.gpu_steps.runs import WORKER, brief, forge, layer, settings, train
from bench.gpu_steps.worker import NO_SYNC
from modelforge.forge import Forge


def main(record: Record) -> None:
    """Make a trial run, the run, and a trial run that does not wait for the GPU."""
    values = settings("0.6B", 512, gradient_accumulation_steps=16, max_steps=5)
    services = forge("trial")
    trial = record.measure("trial_run", lambda: trial_run(services, values)) or {}
    measured = record.measure("run", lambda: train(services, values)) or {}
    services.close()
    # The first step includes what is set up once.
    seconds = [each for each in measured.get("seconds_per_step", [])[1:] if each]
    truth = statistics.median(seconds) if seconds else None
    record.keep(run=brief(measured), seconds_per_step=truth)
    _compare(record, "predicted / measured", trial, truth)
    os.environ[NO_SYNC] = "1"
    services = forge("no-sync", worker=WORKER)
    hasty = record.measure("trial_run_without_sync", lambda: trial_run(services, values)) or {}
    services.close()
    _compare(record, "predicted / measured without sync", hasty, truth)


def trial_run(services: Forge, values: dict[str, Any]) -> dict[str, Any]:
    """Return the measurements of a trial run, or how it ended."""
    name = services.trial_runs.start(layer(values))
    while not (view := services.trial_runs.view(name)).state.is_over:
        time.sleep(0.1)
    return asdict(view.trial_run) if view.trial_run else {"ended": view.ending}


def _compare(record: Record, name: str, trial: dict[str, Any], truth: float | None) -> None:
    predicted = trial.get("seconds_per_update")
    if truth and predicted:
        record.keep(**{name: round(predicted / truth, 3)})


if __name__ == "__main__":
    run_step(main)
