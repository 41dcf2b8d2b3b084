"""The plan of several GPUs: how many, what they divide, and the batches of each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.config.plan.context import PlanContext
from modelforge.config.plan.make import make_plan
from modelforge.config.schema.config import TrainingConfig

CARDS = PlanContext("cuda", "model", context=2048, train_rows=1000, gpus=4)
CPU = replace(CARDS, device="cpu")


def plan_of(context: PlanContext = CARDS, *, hardware: object = None, **settings: object):
    values = {
        "task": "text-generation",
        "model_name": "tiny",
        "dataset": "rows.jsonl",
        "compute_specs": "low_end",
        "use_4bit": False,
        "hardware": hardware or {},
    }
    return make_plan(TrainingConfig.from_record(values | settings), context)


def change(plan, where):
    return next((each for each in plan.changes if each.where == where), None)


@pytest.mark.parametrize(
    ("context", "gpus", "ranks"),
    [(CARDS, 1, 1), (CARDS, 2, 2), (CARDS, 0, 4), (CPU, 2, 2), (CPU, 0, 1)],
)
def test_gpus_are_counted_and_0_is_all_of_them(context, gpus, ranks):
    plan = plan_of(context, hardware={"gpus": gpus})
    assert plan.ranks == ranks
    if gpus == 0:
        assert change(plan, "hardware.gpus").used == ranks


def test_an_apple_computer_has_one_gpu():
    plan = plan_of(replace(CARDS, device="mps"), hardware={"gpus": 2})
    assert plan.ranks == 1
    assert "one GPU" in change(plan, "hardware.gpus").reason


@pytest.mark.parametrize(
    ("gpus", "sharding", "used"),
    [(1, "none", "none"), (1, "fsdp2", "none"), (2, "none", "ddp"), (2, "fsdp2", "fsdp2")],
)
def test_the_sharding_is_that_of_the_number_of_gpus(gpus, sharding, used):
    plan = plan_of(hardware={"gpus": gpus, "sharding": sharding})
    assert plan.sharding == used
    assert (change(plan, "hardware.sharding") is None) is (sharding == used)


def test_gpus_share_the_batches_of_a_step():
    one, both = plan_of(), plan_of(hardware={"gpus": 2})
    assert (one.gradient_accumulation_steps, both.gradient_accumulation_steps) == (4, 2)
    assert one.total_steps == both.total_steps
    reason = change(both, "gradient_accumulation_steps").reason
    assert reason.startswith("2 GPUs share the 4 rows of a step, 2 x 1 each: the same 4 rows in")


@pytest.mark.parametrize(
    ("gpus", "batch", "batches", "used"),
    [
        (4, 4, 2, (2, 1)),  # 8 rows are 4 times 2
        (2, 4, 1, (2, 1)),
        (2, 6, 3, (3, 3)),  # 18 rows are 2 times 9
        (4, 4, 4, (None, 1)),
        (3, 2, 4, (None, 2)),  # 8 rows cannot be shared, which the check refuses
    ],
)
def test_batches_are_made_smaller_for_the_same_rows(gpus, batch, batches, used):
    settings = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": batches}
    one, several = plan_of(**settings), plan_of(hardware={"gpus": gpus}, **settings)
    assert (several.rank_batch_size, several.gradient_accumulation_steps) == used
    assert several.total_steps == one.total_steps
    is_smaller = change(several, "per_device_train_batch_size")
    assert (is_smaller is None) is (used[0] is None)


def test_rows_that_cannot_be_shared_are_named():
    plan = plan_of(hardware={"gpus": 3})
    assert "cannot share the 4 rows" in change(plan, "gradient_accumulation_steps").reason


def test_gpus_that_share_a_row_share_no_batches():
    hardware = {"gpus": 4, "sharding": "fsdp2", "sequence_parallel_size": 2}
    plan = plan_of(hardware=hardware)
    assert (plan.replicas, plan.gradient_accumulation_steps) == (2, 2)


def test_what_works_on_one_gpu_alone_is_named():
    plan = plan_of(
        hardware={"gpus": 2},
        memory={"autopilot": True, "auto_batch_size": True},
        evaluation={"row_losses": True},
    )
    off = {each.where for each in plan.changes if each.used is False}
    assert off >= {"memory.autopilot", "memory.auto_batch_size", "evaluation.row_losses"}


def test_the_state_of_a_paged_optimizer_is_not_divided():
    settings = {"adapter": {"enabled": False}, "optim": "paged_adamw_32bit"}
    both = plan_of(hardware={"gpus": 2, "sharding": "fsdp2"}, **settings)
    assert both.optim == "adamw_torch_fused"
    assert plan_of(hardware={"gpus": 2}, **settings).optim == "paged_adamw_32bit"
