"""Two processes train as one does, whatever they divide."""

from __future__ import annotations

import numpy as np
import pytest

from modelforge.runs.events import EventRecord
from modelforge.runs.layout import RunFolder
from modelforge.runs.progress.evaluation_losses import Batch, read_evaluation_losses

pytestmark = [pytest.mark.torch, pytest.mark.slow]
# Fifteen rows fill no whole number of steps.
TWENTY = {
    "max_steps": 20,
    "gradient_accumulation_steps": 4,
    "lora_dropout": 0.0,
    "learning_rate": 1e-3,
    "eval_split": 0.25,
    "eval_steps": 10,
    "per_device_eval_batch_size": 3,
    "evaluation": {"samples": 1, "sample_tokens": 4},
}
FULL = {"adapter": {"enabled": False}}


def train(bench, **settings) -> tuple[list[EventRecord], RunFolder]:
    folder = bench.prepare(**TWENTY | settings)
    events = bench.work(folder)
    assert events[-1].kind == "finished", events[-1].data
    return events, folder


def two(sharding: str) -> dict[str, object]:
    return {"device": "cpu", "gpus": 2, "sharding": sharding}


def losses(events: list[EventRecord], kind: str) -> list[float]:
    return [record.data["loss"] for record in events if record.kind == kind]


def batches(folder: RunFolder) -> tuple[str, list[Batch]]:
    kept = read_evaluation_losses(folder)
    return kept.rows, [*kept.before, *kept.after]


def answers(events: list[EventRecord]) -> list[object]:
    return [record.data["answers"] for record in events if record.kind == "samples"]


def planned(events: list[EventRecord]) -> dict[str, object]:
    return next(record.data for record in events if record.kind == "plan")


@pytest.mark.parametrize(
    ("sharding", "trained"),
    [("ddp", {}), ("ddp", FULL), ("fsdp2", {}), ("fsdp2", FULL)],
    ids=["ddp-lora", "ddp-full", "fsdp2-lora", "fsdp2-full"],
)
def test_two_processes_have_the_losses_of_one(bench, sharding, trained):
    one, alone = train(bench, **trained)
    both, together = train(bench, hardware=two(sharding), **trained)
    assert len(losses(both, "step")) == 20
    for kind in ("step", "eval"):
        assert losses(both, kind) == pytest.approx(losses(one, kind), abs=1e-4)
    (digest, kept), (rows, losses_of_one) = batches(together), batches(alone)
    assert digest == rows
    assert kept
    assert np.array(kept) == pytest.approx(np.array(losses_of_one), abs=1e-3)
    assert len(answers(one)) == 3
    assert answers(both) == answers(one)
    facts = planned(both)
    assert facts["ranks"] == 2
    held = facts["rank_parameters"] / facts["total_parameters"]
    # accelerate would train as with ddp on the CPU: the parameters are DTensors.
    assert held == pytest.approx(0.5 if sharding == "fsdp2" else 1.0, abs=0.01)
