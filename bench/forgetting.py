"""What a training forgets: a mild run, an overtrained one, and the same with general rows mixed in.

All three train the starter model on one bundled sample and are evaluated on the same rows and the
general prompts. The mild run must not be flagged, the overtrained one must; with general rows in
the shares asked for, the overtrained run drops less at the same loss of the evaluation rows. Runs
that are compared take the same number of steps. Prints a row for each run as it ends; those of
earlier calls are kept, and not trained again.

    python bench/forgetting.py [--sample units] [--seeds 0] [--shares 0.13] [--rate 0.001]
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from harness import keep, kept, own_home, recorded, trained
from planted_rows import Row, newest, read_sample, write
from verdicts import evaluated

from modelforge.runs.evaluations import EvaluationRequest

NAME = "forgetting"
HELD_OUT, BATCH = 0.2, 4
MILD_EPOCHS, MILD_RATE = 1.0, 2e-4


def main() -> None:
    """Train and evaluate what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", default="units")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--shares", default="0.13", help="general rows in all rows; comma text")
    parser.add_argument("--epochs", type=float, default=8.0, help="of the overtrained runs")
    parser.add_argument("--rate", type=float, default=1e-3, help="of the overtrained runs")
    options = parser.parse_args()
    rows = kept(NAME)
    done = {_key(row) for row in rows}
    over = [(options.epochs, options.rate, share) for share in _numbers("0," + options.shares)]
    with recorded(NAME):
        for seed in map(int, options.seeds.split(",")):
            for epochs, rate, share in [(MILD_EPOCHS, MILD_RATE, 0.0), *over]:
                case = {"sample": options.sample, "seed": seed, "epochs": epochs, "rate": rate}
                case["share"] = share
                if _key(case) in done:
                    continue
                rows.append(measure(case))
                keep(NAME, rows)
                print(json.dumps(rows[-1]), flush=True)


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """Train a case in a home of its own, evaluate it, and return its row of the table."""
    rows = read_sample(case["sample"])
    random.Random(case["seed"]).shuffle(rows)
    cut = round(HELD_OUT * len(rows))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        home = own_home(folder / "home")
        trained(home, settings(case, folder, rows[cut:], rows[:cut]))
        asked = EvaluationRequest(newest(home.runs).id, answers=False, prompted=False)
        report = evaluated(home, asked)
    part, loss = report["forgetting"], report["metrics"][0]["contestants"]
    return case | {
        "steps": steps(case, len(rows) - cut),
        "prompts": part["prompts"],
        "right_base": part["base"],
        "right_tuned": part["tuned"],
        "change_low": round(part["interval"][0], 3),
        "change_high": round(part["interval"][1], 3),
        "flagged": part["kind"],
        "advised_share": round((part["mix"] or {}).get("share", 0.0), 3),
        "loss_base": round(loss["base"]["value"], 4),
        "loss_tuned": round(loss["tuned"]["value"], 4),
        "seconds": round(report["seconds"]),
    }


def settings(
    case: dict[str, Any], folder: Path, training: list[Row], evaluation: list[Row]
) -> dict[str, Any]:
    """Return the settings of a run, whose data is written to the folder."""
    sources: list[dict[str, Any]] = [{"path": str(write(folder / "rows.jsonl", training))}]
    if share := case["share"]:
        count = round(len(training) * share / (1 - share))
        sources.append({"path": "sample:general", "samples": count})
    return {
        "task": "text-generation",
        "model_name": "starter",
        "dataset": sources[0]["path"],
        "compute_specs": "low_end",
        "use_4bit": False,
        "learning_rate": case["rate"],
        "max_steps": steps(case, len(training)),
        "per_device_train_batch_size": BATCH,
        "gradient_accumulation_steps": 1,
        "eval_steps": 10_000,
        "max_seq_length": 256,
        "hardware": {"device": "cpu"},
        "trainer": {"seed": case["seed"]},
        "data": {
            "sources": sources,
            "validation_sources": [{"path": str(write(folder / "held.jsonl", evaluation))}],
        },
        "evaluation": {"samples": 0, "keep_best": False, "generated_rows": 0},
    }


def steps(case: dict[str, Any], training: int) -> int:
    """Return the number of steps: epochs over the rows of the sample, without general rows."""
    return round(case["epochs"] * training / BATCH)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("sample", "seed", "epochs", "rate", "share"))


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",") if part]


if __name__ == "__main__":
    main()
