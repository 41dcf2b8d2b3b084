"""Verdicts of evaluations: the bundled samples trained on right and on exchanged answers.

Each sample is trained with each seed twice: as it is, and with the answers of all rows exchanged at
random. A report must never say of the second that the answers were learned. Prints a row for each
run as it ends; those of earlier calls are kept, and not trained again.

    python bench/verdicts.py [--samples units,captain] [--seeds 0,1,2] [--steps 40] [--rows 100]
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import keep, kept, own_home, recorded, trained, until
from planted_rows import Row, answer_of, newest, read_sample, with_answer, write

from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.evaluations import EvaluationRequest

NAME = "verdicts"
SAMPLES = ("units", "captain", "support", "brief", "notices", "board")
TASKS = {"notices": "summarization", "board": "extractive-question-answering"}
METHODS = {"brief": "dpo"}
DATA = ("right", "exchanged")
EVALUATED = 0.3
LIMIT_S = 1800.0


@dataclass(frozen=True)
class Case:
    """A training: a sample, its answers right or exchanged, and a seed."""

    sample: str
    answers: str
    seed: int


def main() -> None:
    """Train and evaluate what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", default=",".join(SAMPLES))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rows", type=int, default=100)
    options = parser.parse_args()
    rows = kept(NAME)
    done = {(row["sample"], row["answers"], int(row["seed"])) for row in rows}
    with recorded(NAME):
        for seed in map(int, options.seeds.split(",")):
            for sample in options.samples.split(","):
                for answers in DATA:
                    case = Case(sample, answers, seed)
                    if (sample, answers, seed) in done:
                        continue
                    rows.append(measure(case, options.steps, options.rows))
                    keep(NAME, rows)
                    print(json.dumps(rows[-1]), flush=True)


def measure(case: Case, steps: int, rows: int) -> dict[str, Any]:
    """Train a case in a home of its own, evaluate it, and return its row of the table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        home = own_home(folder / "home")
        data = write(folder / f"{case.sample}.jsonl", rows_of(case))
        trained(home, settings(case, data, steps))
        asked = EvaluationRequest(
            newest(home.runs).id, rows=rows, answers=False, prompted=False, general=False
        )
        report = evaluated(home, asked)
    learned, verdict = report["learned"] or {}, report["verdict"]
    right, exchanged = learned.get("right") or {}, learned.get("exchanged") or {}
    return {
        "sample": case.sample,
        "answers": case.answers,
        "seed": case.seed,
        "steps": steps,
        "rows": learned.get("rows", 0),
        "verdict": verdict["kind"],
        "learned": learned.get("kind", "not measured"),
        "gain": round(learned.get("gain", 0.0), 4),
        "chance": round(learned.get("chance", 1.0), 4),
        "least_gain": round(learned.get("least_gain", 0.0), 4),
        "right_base": round(right.get("base", 0.0), 4),
        "right_tuned": round(right.get("tuned", 0.0), 4),
        "exchanged_base": round(exchanged.get("base", 0.0), 4),
        "exchanged_tuned": round(exchanged.get("tuned", 0.0), 4),
        "seconds": round(report["seconds"]),
    }


def rows_of(case: Case) -> list[Row]:
    """Return the rows of a case; of questions with spans, exchanged answers are plain text."""
    rows = read_sample(case.sample)
    if case.answers == "right":
        return rows
    if case.sample == "board":
        rows = [as_text(row) for row in rows]
    order = list(range(len(rows)))
    random.Random(case.seed).shuffle(order)
    if case.sample == "brief":
        answers = [(row["chosen"], row["rejected"]) for row in rows]
        moved = dict(zip(order, order[1:] + order[:1], strict=True))
        return [
            row | dict(zip(("chosen", "rejected"), answers[moved[at]], strict=True))
            for at, row in enumerate(rows)
        ]
    moved = dict(zip(order, order[1:] + order[:1], strict=True))
    found = [answer_of(row) for row in rows]
    return [with_answer(row, found[moved[at]]) for at, row in enumerate(rows)]


def as_text(row: Row) -> Row:
    """Return a question about a context as a prompt with a completion."""
    answer = (row["answers"]["text"] or ["It does not say."])[0]
    asked = (
        f"Answer the question from this text.\n\n{row['context']}\n\nQuestion: {row['question']}"
    )
    return {"prompt": asked, "completion": answer}


def settings(case: Case, data: Path, steps: int) -> dict[str, Any]:
    """Return the settings of a run."""
    is_text = case.answers == "exchanged" and case.sample == "board"
    return {
        "task": "text-generation" if is_text else TASKS.get(case.sample, "text-generation"),
        "strategy": METHODS.get(case.sample, "sft"),
        "model_name": "starter",
        "dataset": str(data),
        "compute_specs": "low_end",
        "use_4bit": False,
        "max_steps": steps,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "eval_split": EVALUATED,
        "eval_steps": 10_000,
        "max_seq_length": 256,
        "hardware": {"device": "cpu"},
        "trainer": {"seed": case.seed},
        "evaluation": {"samples": 0, "keep_best": False, "generated_rows": 0},
    }


def evaluated(home: Home, asked: EvaluationRequest) -> dict[str, Any]:
    """Evaluate a run and return the report."""
    forge = Forge(home)
    try:
        started = forge.evaluations.start(asked)

        def ended() -> bool:
            forge.tend()
            return forge.evaluations.view(started.id).state.is_over

        until(ended, LIMIT_S, "the evaluation did not end")
        report = forge.evaluations.view(started.id).report
        if report is None:
            raise RuntimeError(forge.evaluations.log(started.id))
        return report
    finally:
        forge.close()


if __name__ == "__main__":
    main()
