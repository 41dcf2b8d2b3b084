"""Cost of keeping the losses of rows: the same training steps with and without, by turns.

One process trains the starter model on a bundled sample. Each batch is trained twice, once with the
recorder and once without, in alternating order, so that load of other processes affects both. The
processor time of all threads is compared; the wall time is printed beside it.

    python bench/row_losses.py [BATCHES] [SAMPLE]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import own_home

from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.runs.row_losses import read_row_losses
from modelforge.runs.store import Store
from modelforge.services.start import new_run

FIRST = 2  # batches that are not counted: libraries initialize themselves


def main(batches: int = 30, sample: str = "captain") -> None:
    """Train `batches` batches twice each and print the ratio of their times."""
    with tempfile.TemporaryDirectory() as temporary:
        home = own_home(Path(temporary) / "home")
        forge = Forge(home)
        try:
            checked = forge.preflight.check(Layer("bench", settings(sample, batches)))
            folder = Store(home).create(new_run(checked))
        finally:
            forge.close()
        pairs, losses = measure(folder)
        found = read_row_losses(folder)
    report(pairs[FIRST:], losses, 0 if found is None else len(found.rows))


def settings(sample: str, batches: int) -> dict[str, Any]:
    """Return the settings of the run; each batch is a step."""
    return {
        "task": "text-generation",
        "model_name": "starter",
        "dataset": f"sample:{sample}",
        "compute_specs": "low_end",
        "use_4bit": False,
        "eval_split": 0.0,
        "max_steps": batches,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "hardware": {"device": "cpu"},
        "evaluation": {"samples": 0},
    }


def measure(folder: Any) -> tuple[list[tuple[float, float, float, float]], list[float]]:
    """Return (with, without, wall with, wall without) in seconds per batch, and both losses."""
    from modelforge.train.strategies.sft import SftTrainer
    from modelforge.train.worker import run_worker

    step, pairs, losses = SftTrainer.training_step, [], [0.0, 0.0]

    def both(trainer: Any, model: Any, inputs: dict[str, Any], *rest: Any) -> Any:
        recorder, times = trainer.row_losses, {}
        turns = (recorder, None) if len(pairs) % 2 else (None, recorder)
        for index, trainer.row_losses in enumerate(turns):
            cpu, wall = time.process_time(), time.perf_counter()
            loss = step(trainer, model, dict(inputs), *rest)
            is_on = trainer.row_losses is not None
            times[is_on] = (time.process_time() - cpu, time.perf_counter() - wall)
            losses[is_on] += float(loss)
            if index == 0:
                model.zero_grad(set_to_none=True)
        trainer.row_losses = recorder
        pairs.append((times[True][0], times[False][0], times[True][1], times[False][1]))
        return loss

    SftTrainer.training_step = both
    try:
        if run_worker(folder.path):
            raise RuntimeError((folder.path / "events.jsonl").read_text("utf-8")[-2000:])
    finally:
        SftTrainer.training_step = step
    return pairs, losses


def report(pairs: list[tuple[float, ...]], losses: list[float], rows: int) -> None:
    """Print the ratios of the sums and the medians of the ratios."""
    for name, kept, bare in (("processor", 0, 1), ("wall", 2, 3)):
        whole = sum(pair[kept] for pair in pairs) / sum(pair[bare] for pair in pairs) - 1
        usual = statistics.median(pair[kept] / pair[bare] for pair in pairs) - 1
        print(f"{name} time: {whole:+.2%} in all, {usual:+.2%} for the median batch")
    seconds = statistics.fmean(pair[1] for pair in pairs)
    print(f"{len(pairs)} batches of {seconds:.2f} s of processor time; {rows} rows recorded")
    print(f"sum of the losses without {losses[0]:.6f}, with {losses[1]:.6f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:3])
