"""A sweep beside a full grid: does it find the best learning rate in 35 % of the grid's time?

On each bundled sample the starter model is trained with every rate of a grid, by the queue, and
then by a sweep that begins with the default rate and has 35 % of the seconds of the grid. The rate
of the sweep must lie within a factor of 2 of the best one of the grid. What earlier calls have
measured is kept, and not measured again. Nothing else may use the core.

    python bench/sweep_grid.py [--samples captain,units,support] [--steps 48] [--rates 15]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import keep, kept, own_home, recorded

from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.services.sweeps.space import read_dimensions
from modelforge.services.sweeps.trials import GRACE

NAME = "sweep-grid"
LOWEST, HIGHEST, FACTOR = 1e-5, 3e-3, 2.0
Row = dict[str, Any]
# What a grid finds is as coarse as its spacing: 15 rates lie a factor of 1.5 apart.
BATCH, POLL_S = 2, 0.2


def main() -> None:
    """Measure what is asked for and not known yet, and print what the sweeps found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", default="captain,units,support")
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--rates", type=int, default=15, help="of the grid")
    parser.add_argument("--share", type=float, default=0.35, help="of the grid's time")
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    options = parser.parse_args()
    rows = [] if options.dry else kept(NAME)
    rates = [float(f"{rate:.3g}") for rate in np.geomspace(LOWEST, HIGHEST, options.rates)]
    with recorded(NAME) if not options.dry else nullcontext():
        for sample in options.samples.split(","):
            known = {row["rate"] for row in _of(rows, sample, "grid")}
            for rate in [each for each in rates if each not in known]:
                rows += measured(sample, "grid", partial(train, sample, options.steps, rate))
                _keep(rows, options)
            if not _of(rows, sample, "sweep"):
                seconds = cost(_of(rows, sample, "grid"))
                # A sweep may be late by its grace, and must not take more than its share then.
                budget_s = options.share * seconds / (1 + GRACE)
                search = partial(sweep, sample, options.steps, budget_s)
                rows += measured(sample, "sweep", search)
                _keep(rows, options)
            print(summary(sample, rows), flush=True)


def train(sample: str, steps: int, rate: float, forge: Forge) -> list[Row]:
    """Train with one rate of the grid and return its row."""
    run = forge.queue.add(Layer("bench", settings(sample, steps) | {"learning_rate": rate}))
    tend(forge, lambda: forge.runs.state(run).is_over)
    view = forge.runs.view(run)
    return [{"rate": rate, "loss": view.eval_loss, "state": view.state.value, "step": view.step}]


def sweep(sample: str, steps: int, budget_s: float, forge: Forge) -> list[Row]:
    """Search the rates within some seconds and return a row for each trial."""
    vary = read_dimensions([f"learning_rate={LOWEST}..{HIGHEST}"])
    layer = Layer("bench", settings(sample, steps))
    started = forge.sweeps.start(layer, dimensions=vary, budget_s=budget_s)
    tend(forge, lambda: not running(forge, started))
    return [
        {
            "rate": float(f"{trial.values['learning_rate']:.3g}"),
            "loss": trial.loss,
            "state": trial.state,
            "step": max(trial.losses, default=0),
        }
        for trial in forge.sweeps.view(started).trials
    ]


def running(forge: Forge, sweep_id: str) -> bool:
    """Return whether a sweep still trains; the comparison of its result is not part of it."""
    view = forge.sweeps.view(sweep_id)
    return not (view.is_over or view.is_comparing)


def measured(sample: str, kind: str, work: Callable[[Forge], list[Row]]) -> list[Row]:
    """Return the rows of some work in a home of its own; the first has what all of it cost."""
    with tempfile.TemporaryDirectory() as temporary:
        forge = Forge(own_home(Path(temporary) / "home"))
        began = time.monotonic()
        try:
            made = work(forge)
            seconds = time.monotonic() - began
        finally:
            forge.close()
    rows: list[Row] = [{"sample": sample, "kind": kind, **row} for row in made]
    rows[0] |= {"seconds": round(seconds, 1)}
    return rows


def cost(rows: list[Row]) -> float:
    """Return the seconds of rows."""
    return float(sum(row["seconds"] for row in rows if row.get("seconds")))


def tend(forge: Forge, is_done: Callable[[], bool]) -> None:
    """Do the work of a server until it is done."""
    while not is_done():
        forge.tend()
        time.sleep(POLL_S)


def settings(sample: str, steps: int) -> dict[str, Any]:
    """Return the settings of all runs of a sample; the learning rate is the default."""
    return {
        "task": "text-generation",
        "model_name": "starter",
        "dataset": f"sample:{sample}",
        "compute_specs": "low_end",
        "use_4bit": False,
        "max_steps": steps,
        "eval_steps": max(1, steps // 8),
        "eval_split": 0.08,
        "per_device_train_batch_size": BATCH,
        "per_device_eval_batch_size": 16,
        "gradient_accumulation_steps": 1,
        "max_seq_length": 128,
        "hardware": {"device": "cpu"},
        "evaluation": {"samples": 0, "keep_best": False, "row_losses": False},
    }


def summary(sample: str, rows: list[Row]) -> str:
    """Return what the sweep found, in words."""
    grid, trials = _of(rows, sample, "grid"), _of(rows, sample, "sweep")
    best, found = best_of(grid, "finished"), best_of(trials, "complete")
    factor = max(best["rate"] / found["rate"], found["rate"] / best["rate"])
    share = cost(trials) / cost(grid)
    return (
        f"{sample}: best of the grid {best['rate']:.3g} ({best['loss']:.4f}), of the sweep "
        f"{found['rate']:.3g} ({found['loss']:.4f}) in {len(trials)} trials; factor {factor:.2f} "
        f"({'within' if factor <= FACTOR else 'beyond'} {FACTOR:g}); {share:.0%} of the grid's "
        f"{cost(grid):.0f} s"
    )


def best_of(rows: list[Row], state: str) -> Row:
    """Return the row with the lowest loss among those with a state."""
    return min((row for row in rows if row["state"] == state), key=lambda row: float(row["loss"]))


def _keep(rows: list[Row], options: argparse.Namespace) -> None:
    if not options.dry:
        keep(NAME, rows)


def _of(rows: list[Row], sample: str, kind: str) -> list[Row]:
    return [row for row in rows if (row["sample"], row["kind"]) == (sample, kind)]


if __name__ == "__main__":
    main()
