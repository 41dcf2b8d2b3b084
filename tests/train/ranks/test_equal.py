"""Two processes train as one does."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.torch
TWENTY = {
    "max_steps": 20,
    "gradient_accumulation_steps": 4,
    "lora_dropout": 0.0,
    "learning_rate": 1e-3,
    "eval_split": 0.25,
    "eval_steps": 10,
}
FULL = {"adapter": {"enabled": False}}


def losses(events, kind="step"):
    return [record.data["loss"] for record in events if record.kind == kind]


def train(bench, **settings):
    events = bench.work(bench.prepare(**TWENTY | settings))
    assert events[-1].kind == "finished", events[-1].data
    return events


def two(sharding):
    return {"device": "cpu", "gpus": 2, "sharding": sharding}


@pytest.mark.parametrize("trained", [{}, FULL], ids=["lora", "full"])
def test_two_processes_have_the_losses_of_one(bench, trained):
    one = train(bench, **trained)
    for sharding in ("ddp", "fsdp2"):
        both = train(bench, hardware=two(sharding), **trained)
        assert len(losses(both)) == 20
        assert losses(both) == pytest.approx(losses(one), abs=1e-4)
        assert losses(both, "eval") == pytest.approx(losses(one, "eval"), abs=1e-4)
