"""Wrong rows that are planted among the rows of a bundled sample, and found by their losses.

Of 5 % of the training rows the answer is replaced by that of another row. After the training the
rows are ranked by their mean loss over all epochs; the share of the planted ones in the worst tenth
is what counts. Other runs leave out the planted rows of that tenth, as a user who reads it would,
or the whole tenth. All are evaluated on the same rows after the same number of steps. Rows of
earlier calls are kept, and not measured again.

    python bench/planted_rows.py [--samples units] [--seeds 42,1,2] [--left-out none,found,tenth]
        [--rate 2e-4]
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import ROOT, keep, kept, own_home, recorded, trained

from modelforge.runs.layout import RunFolder
from modelforge.runs.row_losses import RowLosses, read_row_losses

NAME = "planted-rows"
PLANTED, WORST, HELD_OUT = 0.05, 0.1, 0.2
RANKINGS = ("first", "last", "mean")
RANKED_BY = "mean"
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Which rows are planted, and the learning rate of the runs on them."""

    sample: str
    seed: int
    rate: float


def main() -> None:
    """Measure what is asked for and not known yet; print a row for each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", default="units")
    parser.add_argument("--seeds", default="42,1,2")
    parser.add_argument("--left-out", default="none,found,tenth")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=2e-4, help="learning rate")
    options = parser.parse_args()
    rows = kept(NAME)
    with recorded(NAME):
        for sample in options.samples.split(","):
            for seed in map(int, options.seeds.split(",")):
                for left_out in options.left_out.split(","):
                    case = Case(sample, seed, options.rate)
                    if _find(rows, case, left_out) is None:
                        rows.append(measure(rows, case, left_out, options.epochs))
                        keep(NAME, rows)
                        print(json.dumps(rows[-1]), flush=True)


def measure(rows: list[Row], case: Case, left_out: str, epochs: int) -> Row:
    """Train with some rows left out, and return the row of the table."""
    evaluation, train, planted = planted_sample(case.sample, case.seed)
    known = _find(rows, case, "none")
    leave: set[int] = set()
    if known is not None:
        worst = {int(row) for row in str(known["worst"]).split()}
        leave = {"found": worst & planted, "tenth": worst}[left_out]
    rest = [row for index, row in enumerate(train) if index not in leave]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        home = own_home(folder / "home")
        held = write(folder / "evaluation.jsonl", evaluation)
        # As many steps as with all rows, so that the rows alone differ.
        longer = epochs * len(train) / len(rest)
        data = write(folder / "rows.jsonl", rest)
        events = trained(home, settings(case, data, held, longer))
        losses = read_row_losses(newest(home.runs))
    assert losses is not None, "the losses of rows were kept"
    row: Row = {**asdict(case), "left_out": left_out, "rows": len(rest)}
    row |= {"wrong": len(planted - leave), "evaluation_loss": round(eval_loss(events), 4)}
    if not leave:
        found = {by: len(worst_rows(losses, by) & planted) / len(planted) for by in RANKINGS}
        row |= {f"found_by_{by}": round(share, 3) for by, share in found.items()}
        row["worst"] = " ".join(map(str, sorted(worst_rows(losses, RANKED_BY))))
    return row


def planted_sample(sample: str, seed: int) -> tuple[list[Row], list[Row], set[int]]:
    """Return evaluation rows, training rows with wrong ones among them, and which these are."""
    rows = read_sample(sample)
    random.Random(seed).shuffle(rows)
    cut = round(HELD_OUT * len(rows))
    train = rows[cut:]
    planted = plant(train, seed)
    return rows[:cut], train, planted


def _find(rows: list[Row], case: Case, left_out: str) -> Row | None:
    for row in rows:
        known = Case(row["sample"], int(row["seed"]), row["rate"])
        if known == case and row["left_out"] == left_out:
            return row
    return None


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


def settings(case: Case, data: Path, held: Path, epochs: float) -> dict[str, Any]:
    """Return the settings of a run."""
    return {
        "task": "text-generation",
        "model_name": "starter",
        "dataset": str(data),
        "compute_specs": "low_end",
        "use_4bit": False,
        "learning_rate": case.rate,
        "trainer": {"seed": case.seed, "fractional_epochs": epochs},
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
    main()
