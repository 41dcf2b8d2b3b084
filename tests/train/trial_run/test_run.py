"""A trial run: real steps, an evaluation and a save are measured, and nothing is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.torch


def trial_run(bench: Any, **answers: Any) -> tuple[Any, list[Any]]:
    run = bench.prepare(**answers)
    record = json.loads(run.config.read_text())
    run.config.write_text(json.dumps(record | {"trial_run": True}))
    return run, bench.work(run)


def measured(events: list[Any]) -> dict[str, Any]:
    assert events[-1].kind == "finished", events[-1].data
    return next(event.data for event in events if event.kind == "trial_run")


def test_a_trial_run_measures_and_keeps_nothing(bench):
    run, events = trial_run(bench, eval_split=0.25, eval_steps=1, gradient_accumulation_steps=4)
    found = measured(events)
    assert 0.2 < found["peak_gib"] < 16
    assert 0 < found["seconds_per_update"] < 5
    assert found["seconds_per_eval_batch"] > 0
    assert found["save_seconds"] > 0
    assert found["score_seconds"] is None
    assert 0 < found["checkpoint_gib"] < 1
    assert found["load_seconds"] > 0
    assert (found["micro_batch"], found["accumulation"]) == (2, 4)
    assert not run.checkpoints.exists()
    assert not run.output.exists()
    assert json.loads(run.exit.read_text())["state"] == "finished"


PAIRS = [
    {"prompt": f"Number {n}?", "chosen": f"{n} it is, {'so ' * (n % 4)}", "rejected": "No."}
    for n in range(16)
]
ANSWERS = [
    {"strategy": "dpo"},
    {"strategy": "dpo", "trainer": {"preference_loss": "orpo"}},
    {"strategy": "dpo", "trainer": {"preference_loss": "kto"}},
    {"strategy": "rlhf", "trainer": {"max_completion_length": 4, "num_generations": 2}},
]


@pytest.mark.parametrize("answers", ANSWERS, ids=["dpo", "orpo", "kto", "rlhf"])
def test_preference_methods_have_trial_runs(bench, write_rows, answers):
    bench.rows = write_rows(PAIRS)
    _run, events = trial_run(bench, **answers, eval_split=0.25, eval_steps=1)
    found = measured(events)
    assert found["seconds_per_update"] > 0
    assert found["seconds_per_eval_batch"] > 0
    has_stages = answers["strategy"] == "rlhf"
    assert found["stages"] == (2 if has_stages else 1)
    # The reward model of a few steps says nothing of that of the run.
    notes = [event.data["code"] for event in events if event.kind == "note"]
    assert ("reward-untried" in notes) is has_stages
    assert not [event for event in events if event.kind == "reward_trial"]


def test_packing_has_trial_runs(bench):
    _run, events = trial_run(bench, packing=True, max_seq_length=64)
    assert measured(events)["tokens_per_s"] > 0


def test_summarization_and_qa_have_trial_runs(bench, write_rows, tiny_rewriter, tiny_reader):
    rows = [{"text": f"Number {n} is large.", "summary": "large"} for n in range(16)]
    bench.rows = write_rows(rows)
    asked = {"eval_split": 0.25, "eval_steps": 1}
    summing = {"task": "summarization", "kind": "encoder-decoder", "model_path": str(tiny_rewriter)}
    _run, events = trial_run(bench, **summing, **asked)
    assert measured(events)["seconds_per_update"] > 0
    # Four rows are held out, and answered with the adapter and without.
    assert measured(events)["score_seconds"] > 0
    assert not any(event.kind == "scores" for event in events)
    spans = [
        {"context": f"it is red {n}", "question": "what is it", "answer": "red"} for n in range(16)
    ]
    bench.rows = write_rows(spans)
    pointing = {
        "task": "extractive-question-answering",
        "kind": "encoder",
        "model_path": str(tiny_reader),
    }
    _run, events = trial_run(bench, **pointing, **asked)
    assert measured(events)["seconds_per_eval_batch"] > 0


def test_a_trial_run_can_be_stopped(bench):
    run = bench.prepare()
    record = json.loads(run.config.read_text())
    run.config.write_text(json.dumps(record | {"trial_run": True}))
    run.stop.write_text("discard")
    assert bench.work(run)[-1].kind == "stopped"
