"""A run ends where the measure of its length says, counted on the tokenized rows."""

from __future__ import annotations

import json

import pytest

from modelforge.runs.event_types import StepEvent

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

# Sixteen rows, four per step.
FOUR = {"max_steps": -1, "gradient_accumulation_steps": 2}


def facts_of(events):
    """Return the plan event of a run and the number of its last step."""
    (planned,) = (event.data for event in events if event.kind == "plan")
    steps = [event.data for event in events if event.kind == StepEvent.kind]
    return planned, steps[-1]["step"]


@pytest.mark.parametrize(
    ("settings", "steps", "epochs"),
    [
        ({"data": {"records_to_sample": 9}}, 3, 0.75),
        ({"data": {"records_to_sample": 20}}, 5, 1.25),
        ({"trainer": {"fractional_epochs": 0.5}}, 2, 0.5),
        ({"strategy": "sft", "num_train_epochs": 3, "trainer": {"fractional_epochs": 1.3}}, 6, 1.5),
    ],
)
def test_records_and_parts_of_epochs_end_the_run(bench, settings, steps, epochs):
    events = bench.work(bench.prepare(**FOUR | settings))
    planned, last = facts_of(events)
    assert (planned["total_steps"], planned["epochs"], last) == (steps, epochs, steps)
    (note,) = (e.data for e in events if e.data.get("code") == "run-length")
    assert f"{steps} steps" in note["text"]


def test_packed_rows_are_counted_as_rows(bench):
    packed = {"packing": True, "max_seq_length": 64, "gradient_accumulation_steps": 1}
    whole, _ = facts_of(bench.work(bench.prepare(**FOUR | packed)))
    half, last = facts_of(bench.work(bench.prepare(**FOUR | packed, data={"records_to_sample": 8})))
    assert half["train_rows"] == whole["train_rows"] == 16
    assert last == half["total_steps"] == -(-whole["total_steps"] // 2)


def test_tokens_and_flops_are_those_of_the_tokenized_rows(bench):
    whole, _ = facts_of(bench.work(bench.prepare(**FOUR)))
    tokens = whole["all_tokens"]
    asked = {"trainer": {"target_tokens": 2 * tokens}}
    _, last = facts_of(bench.work(bench.prepare(**FOUR | asked)))
    assert last == 8
    run = bench.prepare(**FOUR, trainer={"target_flops": 3e3 * tokens})
    record = json.loads(run.config.read_text("utf-8"))
    record["plan"]["flops_per_token"] = 4e3
    run.config.write_text(json.dumps(record), encoding="utf-8")
    _, last = facts_of(bench.work(run))
    assert last == 3


def test_flops_without_the_size_of_the_model_are_refused(bench):
    events = bench.work(bench.prepare(**FOUR, trainer={"target_flops": 1e9}))
    assert events[-1].kind == "failed"
    assert "size of the model is unknown" in json.dumps(events[-1].data)


def test_a_run_shorter_than_its_intervals_is_evaluated_and_keeps_the_best(bench):
    run = bench.prepare(
        **FOUR, data={"records_to_sample": 8}, eval_split=0.25, eval_steps=50,
        trainer={"save_steps": 50},
    )  # fmt: skip
    events = bench.work(run)
    assert [event.data["step"] for event in events if event.kind == "eval"] == [2]
    assert events[-1].data["best_step"] == 2


def test_the_automatic_rate_reaches_the_optimizer(bench):
    settings = {"schedule": {"auto_learning_rate": True}, "lr_scheduler_type": "constant"}
    events = bench.work(bench.prepare(**settings, warmup_ratio=0.0, max_steps=1))
    rates = [e.data["learning_rate"] for e in events if e.kind == StepEvent.kind]
    assert rates == [5e-4]
