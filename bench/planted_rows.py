"""Wrong rows that are planted among the rows of a bundled sample, and found by their losses.

Of 5 % of the training rows the answer is replaced by that of another row. After the training the
rows are ranked by their loss in the last epoch; the share of the planted ones in the worst tenth is
what counts. A second run leaves the worst tenth out; both are evaluated on the same rows.

    python bench/planted_rows.py [SAMPLE] [EPOCHS] [SEED]
"""

from __future__ import annotations

import csv
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import ROOT, own_home, trained

from modelforge.runs.layout import RunFolder
from modelforge.runs.row_losses import RowLosses, read_row_losses

PLANTED, WORST, HELD_OUT = 0.05, 0.1, 0.2
RANKINGS = ("first", "last", "mean")
Row = dict[str, Any]


def main(sample: str = "units", epochs: int = 3, seed: int = 42) -> None:
    """Train with planted rows and without the worst tenth, and print what was found."""
    rows = read_sample(sample)
    random.Random(seed).shuffle(rows)
    cut = round(HELD_OUT * len(rows))
    evaluation, train = rows[:cut], rows[cut:]
    planted = plant(train, seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        home = own_home(folder / "home")
        held = write(folder / "evaluation.jsonl", evaluation)
        first = trained(home, settings(write(folder / "all.jsonl", train), held, epochs, seed))
        losses = read_row_losses(newest(home.runs))
        assert losses is not None, "the losses of rows were kept"
        found = {by: len(worst_rows(losses, by) & planted) / len(planted) for by in RANKINGS}
        worst = worst_rows(losses, "last")
        kept = [row for index, row in enumerate(train) if index not in worst]
        # As many steps as the first run, so that the rows alone differ.
        longer = epochs * len(train) / len(kept)
        second = trained(home, settings(write(folder / "kept.jsonl", kept), held, longer, seed))
    print(f"{sample}, seed {seed}: {len(train)} training rows, {len(planted)} planted")
    shares = ", ".join(f"{share:.0%} by the {by} loss" for by, share in found.items())
    print(f"planted rows in the worst tenth ({len(worst)} rows): {shares}")
    for name, events in (("all rows", first), ("without the worst tenth", second)):
        print(f"evaluation loss, {name}: {eval_loss(events):.4f}", flush=True)


def read_sample(name: str) -> list[Row]:
    """Return the rows of a bundled sample."""
    path = next((ROOT / "assets" / "samples").glob(f"{name}.*"))
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        return list(csv.DictReader(text.splitlines()))
    return [json.loads(line) for line in text.splitlines()]


def plant(rows: list[Row], seed: int) -> set[int]:
    """Exchange the answers of some rows with that of the next one of them; return their indices."""
    chosen = sorted(random.Random(seed + 1).sample(range(len(rows)), round(PLANTED * len(rows))))
    answers = [answer_of(rows[index]) for index in chosen]
    for index, answer in zip(chosen, [*answers[1:], answers[0]], strict=True):
        rows[index] = with_answer(rows[index], answer)
    return set(chosen)


def answer_of(row: Row) -> str:
    """Return the answer of a row of a bundled sample."""
    if "messages" in row:
        return str(row["messages"][-1]["content"])
    return str(row[list(row)[-1]])


def with_answer(row: Row, answer: str) -> Row:
    """Return the row with another answer."""
    if "messages" in row:
        *rest, last = row["messages"]
        return {**row, "messages": [*rest, {**last, "content": answer}]}
    return {**row, list(row)[-1]: answer}


def worst_rows(losses: RowLosses, by: str) -> set[int]:
    """Return the tenth of the rows with the highest loss in the first or last epoch, or in all."""
    last = np.where(np.isnan(losses.after), losses.before, losses.after)
    ranked = {"first": losses.before, "last": last, "mean": losses.mean}[by]
    count = round(WORST * len(losses.rows))
    return set(losses.rows[np.argsort(-ranked)[:count]].tolist())


def settings(data: Path, held: Path, epochs: float, seed: int) -> dict[str, Any]:
    """Return the settings of both runs."""
    return {
        "task": "text-generation",
        "model_name": "starter",
        "dataset": str(data),
        "compute_specs": "low_end",
        "use_4bit": False,
        "learning_rate": 5e-4,
        "trainer": {"seed": seed, "fractional_epochs": epochs},
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "eval_steps": 10_000,
        "max_seq_length": 256,
        "hardware": {"device": "cpu"},
        "data": {"validation_sources": [{"path": str(held)}]},
        "evaluation": {"samples": 0, "keep_best": False},
    }


def write(path: Path, rows: list[Row]) -> Path:
    """Write rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def newest(runs: Path) -> RunFolder:
    """Return the newest run of a home."""
    return RunFolder(max(path for path in runs.iterdir() if (path / "config.json").is_file()))


def eval_loss(events: Any) -> float:
    """Return the evaluation loss at the end of a run."""
    return float([event.data["loss"] for event in events if event.kind == "eval"][-1])


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:]))
