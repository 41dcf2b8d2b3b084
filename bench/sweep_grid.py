"""A sweep beside a full grid: does it find the best learning rate in 35 % of the grid's time?

On each bundled sample the starter model is trained with every rate of a grid, by the queue, and
then by a sweep that begins with the default rate and has 35 % of the seconds of the grid. The rate
of the sweep must lie within a factor of 2 of the best one of the grid. Processor seconds are those
of all workers, because the wall clock depends on what else the computer does. What earlier calls
have measured is kept, and not measured again.

    python bench/sweep_grid.py [--samples captain,units,support] [--steps 48] [--rates 8]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import keep, kept, own_home, recorded

from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.services.sweeps.space import read_dimensions

NAME = "sweep-grid"
LOWEST, HIGHEST, FACTOR = 1e-5, 3e-3, 2.0
# What a grid finds is as coarse as its spacing: 8 rates lie a factor of 2.3 apart.
BATCH, POLL_S = 2, 0.2


def main() -> None:
    """Measure what is asked for and not known yet, and print what the sweeps found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", default="captain,units,support")
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--rates", type=int, default=8, help="of the grid")
    parser.add_argument("--share", type=float, default=0.35, help="of the grid's time")
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    options = parser.parse_args()
    rows = [] if options.dry else kept(NAME)
    with recorded(NAME) if not options.dry else tempfile.TemporaryDirectory():
        for sample in options.samples.split(","):
            for kind, measure in (("grid", grid), ("sweep", sweep)):
                if _of(rows, sample, kind):
                    continue
                rows += measure(sample, options, rows)
                if not options.dry:
                    keep(NAME, rows)
            print(summary(sample, rows), flush=True)


def grid(sample: str, options: argparse.Namespace, _rows: list[dict[str, Any]]) -> list[Any]:
    """Train with each rate of the grid and return a row for each."""
    rates = [float(f"{rate:.3g}") for rate in np.geomspace(LOWEST, HIGHEST, options.rates)]

    def work(forge: Forge) -> list[dict[str, Any]]:
        forge.queue.settings(go_on_after_failure=True)
        runs = [
            forge.queue.add(
                Layer("bench", settings(sample, options.steps) | {"learning_rate": rate})
            )
            for rate in rates
        ]
        tend(forge, lambda: all(forge.runs.state(run).is_over for run in runs))
        return [
            {
                "rate": rate,
                "loss": forge.runs.view(run).eval_loss,
                "state": forge.runs.state(run).value,
            }
            for rate, run in zip(rates, runs, strict=True)
        ]

    return measured(sample, "grid", work)


def sweep(sample: str, options: argparse.Namespace, rows: list[dict[str, Any]]) -> list[Any]:
    """Search the rates in a share of the grid's time and return a row for each trial."""
    budget_s = options.share * float(_of(rows, sample, "grid")[0]["seconds"])
    vary = read_dimensions([f"learning_rate={LOWEST}..{HIGHEST}"])

    def work(forge: Forge) -> list[dict[str, Any]]:
        layer = Layer("bench", settings(sample, options.steps))
        started = forge.sweeps.start(layer, dimensions=vary, budget_s=budget_s)
        tend(forge, lambda: not running(forge, started))
        view = forge.sweeps.view(started)
        return [
            {
                "rate": float(f"{trial.values['learning_rate']:.3g}"),
                "loss": trial.loss,
                "state": trial.state,
                "step": max(trial.losses, default=0),
            }
            for trial in view.trials
        ]

    return measured(sample, "sweep", work)


def running(forge: Forge, sweep_id: str) -> bool:
    """Return whether a sweep still trains; the evaluations after its deadline are not its time."""
    view = forge.sweeps.view(sweep_id)
    return not view.is_over and (
        time.time() < view.deadline or any(trial.is_running for trial in view.trials)
    )


def measured(
    sample: str, kind: str, work: Callable[[Forge], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Return the rows of some work in a home of its own, with its wall and processor seconds."""
    with tempfile.TemporaryDirectory() as temporary:
        forge = Forge(own_home(Path(temporary) / "home"))
        before, began = processor_s(), time.monotonic()
        try:
            made = work(forge)
            seconds = time.monotonic() - began
        finally:
            forge.close()
    cost = {"seconds": round(seconds, 1), "processor_s": round(processor_s() - before, 1)}
    return [{"sample": sample, "kind": kind, **row, **cost} for row in made]


def processor_s() -> float:
    """Return the processor seconds of all ended child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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


def summary(sample: str, rows: list[dict[str, Any]]) -> str:
    """Return what the sweep found, in words."""
    of_grid = [row for row in _of(rows, sample, "grid") if row["state"] == "finished"]
    trials = _of(rows, sample, "sweep")
    best = min(of_grid, key=lambda row: float(row["loss"]))
    found = min(
        (row for row in trials if row["state"] == "complete"), key=lambda row: float(row["loss"])
    )
    factor = max(best["rate"] / found["rate"], found["rate"] / best["rate"])
    wall, processor = (trials[0][key] / of_grid[0][key] for key in ("seconds", "processor_s"))
    return (
        f"{sample}: best of the grid {best['rate']:.3g} ({best['loss']:.4f}), of the sweep "
        f"{found['rate']:.3g} ({found['loss']:.4f}) in {len(trials)} trials; factor {factor:.2f} "
        f"({'within' if factor <= FACTOR else 'beyond'} {FACTOR:g}); {wall:.0%} of the grid's "
        f"{of_grid[0]['seconds']:.0f} s, {processor:.0%} of its processor time"
    )


def _of(rows: list[dict[str, Any]], sample: str, kind: str) -> list[dict[str, Any]]:
    return [row for row in rows if (row["sample"], row["kind"]) == (sample, kind)]


if __name__ == "__main__":
    main()
