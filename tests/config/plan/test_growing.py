"""The plan of a growing model: what each setting changes in its stages."""

from __future__ import annotations

import json

import pytest

from modelforge.config.plan.context import PlanContext
from modelforge.config.plan.make import Plan, make_plan
from modelforge.config.progressive.cost import LayerSizes
from modelforge.config.progressive.settings import growth_of, masking_of, rates_of_groups
from modelforge.config.progressive.stages import RateGroup, stage_plans
from modelforge.config.schema.config import TrainingConfig

SIZES = LayerSizes(((8, 8), (8, 4), (8, 4), (8, 8), (8, 16), (8, 16), (16, 8)), 16, 8, 80, True, 8)
CONTEXT = PlanContext("cpu", "m", train_rows=90, row_tokens=10.0, layers=4, layer_sizes=SIZES)
MODEL = {"task": "text-generation", "model_name": "m", "dataset": "d", "compute_specs": "low_end"}
FOUR = {"gradient_accumulation_steps": 1, "per_device_train_batch_size": 4}


def config(group=None, **settings):
    return TrainingConfig(
        **{**MODEL, **FOUR, **settings}, progressive={"enabled": True, **(group or {})}
    )


def plan_of(group=None, **settings):
    return make_plan(config(group, **settings), CONTEXT)


def stages_of(group=None):
    return stage_plans(growth_of(config(group), 4))


LORA = {"trunk": "lora"}
TABLE = {
    "rank_strategy": "table",
    "per_stage": {0: {"rank": 4, "alpha": 8}, 1: {"rank": 2, "alpha": 3}},
}
BY_PATTERN = {"rank_strategy": "pattern"}


def test_a_growing_model_has_the_stages_of_its_settings():
    plan = plan_of({"stages": 3, "layers_per_stage": 2})
    growing = plan.growing
    assert (plan.method, plan.trains, growing.base_layers) == ("growing", "all", 4)
    assert [stage.layers for stage in growing.stages] == [6, 8, 10]
    assert [stage.name for stage in growing.stages] == [f"Stack {n} of 3" for n in (1, 2, 3)]
    assert [stage.steps for stage in growing.stages] == [23] * 3
    assert plan.total_steps == 69
    assert [stage.tokens for stage in growing.stages] == [900] * 3
    layer = 8 * 8 * 2 + 8 * 4 * 2 + 8 * 16 * 3 + 16
    assert [s.parameters for s in growing.stages] == [n * layer + 80 + 8 for n in (6, 8, 10)]
    assert plan.flops == sum(900 * stage.flops_per_token for stage in growing.stages)
    assert plan.length_by == "progressive.epochs_per_stage"


def test_a_plan_of_growing_is_stored_and_read():
    plan = plan_of({"joint_tuning_steps": 5})
    record = json.loads(json.dumps(plan.as_dict()))
    assert Plan.from_dict(record, {}).growing == plan.growing
    assert plan.growing.stages[-1].name == "All layers together"
    assert plan.growing.stages[-1].steps == 5
    assert plan.total_steps == 2 * 23 + 5


def test_steps_of_a_stage_decide_before_epochs():
    plan = plan_of({"steps_per_stage": 46, "epochs_per_stage": 5}, num_train_epochs=3)
    assert plan.total_steps == 92
    assert plan.growing.epochs == pytest.approx(2)
    changes = {change.where: change.used for change in plan.changes}
    assert changes["progressive.epochs_per_stage"] == changes["num_train_epochs"] == 2
    assert plan_of({"epochs_per_stage": 5}).total_steps == 2 * 5 * 23


def test_a_stored_trunk_is_counted_once_in_the_flops():
    def flops(**group):
        stages = plan_of({"joint_tuning_steps": 1, "epochs_per_stage": 4, **group}).growing.stages
        return [stage.flops_per_token for stage in stages]

    plain, stored = flops(), flops(cache_activations=True)
    forward = 2 * (8 * 8 * 2 + 8 * 4 * 2 + 8 * 16 * 3) + 4 * 8 * 10  # of a layer
    assert [a - b for a, b in zip(plain, stored, strict=True)] == [3 * forward, 3.75 * forward, 0]
    assert flops(cache_activations=True, epochs_per_stage=1) == plain


def test_evaluations_are_planned_for_each_stage():
    assert plan_of({"steps_per_stage": 30}, eval_steps=40).eval_steps == 30


def test_without_the_layers_of_the_model_the_steps_are_known():
    plan = make_plan(config({"steps_per_stage": 7}), PlanContext("cpu", "m"))
    assert (plan.total_steps, plan.growing.stages, plan.growing.base_layers) == (14, [], None)


@pytest.mark.parametrize(
    ("before", "change"),
    [
        ({}, {"stages": 3}),
        ({}, {"layers_per_stage": 2}),
        ({}, {"direction": "prepend"}),
        ({}, {"trunk": "lora"}),
        ({}, {"stack_lora": False}),
        ({}, {"stack_rank": 4}),
        ({}, {"stack_alpha": 4}),
        (LORA, {"trunk_lora": False}),
        (LORA, {"trunk_rank": 4}),
        (LORA, {"trunk_alpha": 4}),
        ({}, TABLE),
        (BY_PATTERN, {"rank_pattern": "increasing"}),
        (BY_PATTERN, {"alpha_pattern": "decreasing"}),
        (TABLE, {"per_stage": "0: 4/8, 1: 4/8"}),
        ({}, {"joint_tuning_steps": 5}),
    ],
)
def test_each_setting_changes_the_stages(before, change):
    assert stages_of(before) != stages_of({**before, **change})


def test_a_mode_is_kept_and_limits_what_may_train():
    assert growth_of(config({"mode": "layerwise"}), 4).mode == "layerwise"


@pytest.mark.parametrize(
    ("change", "shares"),
    [
        ({}, (0.15, 0.9)),
        ({"mask_min": 0.2}, (0.2, 0.9)),
        ({"mask_max": 0.8}, (0.15, 0.8)),
        ({"mask_by": "depth"}, (0.15, 0.25)),
        ({"mask_by": "depth", "mask_steps": 3}, (0.15, 0.5)),
        ({"mask_by": "depth", "mask_steps": 2, "mask_fractions": [0.3, 0.6]}, (0.3, 0.6)),
    ],
)
def test_settings_of_masks_give_the_shares(change, shares):
    masking = masking_of(config({"objective": "mlm", **change}).progressive)
    assert [masking.of_stage(stage, 2)[0] for stage in (0, 1)] == pytest.approx(shares)


def test_the_schedule_of_masks_bends_the_shares():
    masking = masking_of(config({"objective": "mlm", "mask_schedule": "cosine"}).progressive)
    assert masking.of_stage(1, 4)[0] == pytest.approx(0.15 + 0.75 * 0.25)


def test_new_layers_and_adapters_have_their_rates():
    rates = rates_of_groups(config(optimizer={"new_layer_lr": 0.3, "adapter_lr": 0.2}), 0.1)
    assert rates == {RateGroup.TRUNK: 0.1, RateGroup.BLOCK: 0.3, RateGroup.ADAPTERS: 0.2}
    assert set(rates_of_groups(config(), 0.1).values()) == {0.1}


def test_a_quantized_trunk_is_planned():
    assert plan_of({"trunk_quantization": "bnb-4bit"}).quantization == "4-bit"
    assert plan_of().quantization == "none"


def test_a_model_from_nothing_consists_of_its_stacks():
    made = config(
        {"stages": 3, "layers_per_stage": 2}, model_name="", pretraining={"enabled": True}
    )
    assert (made.pretraining.layers, made.model_name, made.optim) == (6, "d6", "adamw_torch")
    plan = make_plan(made, PlanContext("cpu", "d6", train_rows=90, vocab_size=300))
    assert [stage.layers for stage in plan.growing.stages] == [2, 4, 6]
    assert plan.growing.stages[0].trained > plan.growing.stages[1].trained  # embeddings and head
