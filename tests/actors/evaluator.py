"""Evaluates as its first argument says: finishes, fails, waits, waits halfway, crashes."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import stage

from modelforge.errors import Problem
from modelforge.runs.atomic_files import write_json
from modelforge.runs.evaluations import EvaluationFolder, EvaluationResult, write_result
from modelforge.runs.jobs import StepWriter, queue_again

REPORT = {
    "format_version": 1,
    "verdict": {"kind": "better", "sentence": "Better than the base model.", "metric": "loss"},
    "metrics": [
        {
            "name": "loss",
            "label": "Loss",
            "unit": "nats",
            "direction": "lower",
            "rows": 40,
            "contestants": {
                "base": {"value": 2.5, "interval": [2.3, 2.7]},
                "prompted": {"value": 2.1, "interval": [1.9, 2.3]},
                "tuned": {"value": 1.2, "interval": [1.1, 1.3]},
            },
            "difference": {"value": -1.3, "interval": [-1.5, -1.1], "kind": "better"},
        }
    ],
    "forgetting": {
        "kind": "no-clear-change",
        "sentence": "No clear change on general prompts.",
        "prompts": 100,
        "base": 61,
        "tuned": 60,
        "interval": [-0.05, 0.03],
        "groups": [],
        "lost": [],
        "mix": None,
    },
    "rows": [],
    "examples": [],
    "tasks": [],
    "notes": [],
}


def main(how: str, folder: EvaluationFolder) -> int:
    stage.drop_the_curtain()
    threading.Thread(target=end_with_stdin, args=[folder], daemon=True).start()
    steps = StepWriter(folder.events)
    steps.begin("base", "The base model answers")
    with folder.answers.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"contestant": "base", "key": "a", "losses": [1.0]}) + "\n")
    folder.work.mkdir(exist_ok=True)
    if how == "waits":
        stage.sleep_for_ever()
    if how == "halfway":
        write_json(folder.report, REPORT | {"forgetting": None, "examples": []})
        stage.sleep_for_ever()
    if how == "crashes":
        os.abort()
    steps.begin("report", "The report is written")
    steps.end()
    if how == "fails":
        problem = Problem("evaluation", "The data was changed.", "Put the old file back.")
        write_result(folder, EvaluationResult("failed", time.time(), problem))
        return 1
    record = folder.record()
    assert record is not None
    named = {"run": record.request.run, "run_name": record.run_name}
    write_json(folder.report, REPORT | named | {"notes": record.facts["notes"]})
    write_result(folder, EvaluationResult("finished", time.time()))
    return 0


def end_with_stdin(folder: EvaluationFolder) -> None:
    """Put the evaluation back into the queue, as the real evaluator does."""
    sys.stdin.buffer.read()
    queue_again(folder)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], EvaluationFolder(Path(sys.argv[2]))))
