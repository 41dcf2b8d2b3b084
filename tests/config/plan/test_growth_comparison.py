"""The settings of the runs that a growing model is compared with: as many FLOPs, nothing else."""

from __future__ import annotations

import pytest

from modelforge.config.plan.growth_comparison import (
    Way,
    at_once_settings,
    lora_settings,
    steps_for,
    why_not,
)
from modelforge.config.plan.make import make_plan
from modelforge.config.resolve import Layer, flatten, resolve
from tests.config.plan.test_growing import CONTEXT, config

VALUES = {
    "task": "text-generation",
    "model_name": "starter",
    "dataset": "rows.jsonl",
    "num_train_epochs": 4,
    "learning_rate": 3e-4,
    "optimizer": {"new_layer_lr": 1e-3, "adapter_lr": 2e-4},
    "compute_specs": "low_end",
    "trainer": {"seed": 7},
    "progressive": {
        "enabled": True,
        "stages": 3,
        "layers_per_stage": 2,
        "steps_per_stage": 40,
        "rank_strategy": "table",
        "per_stage": "0: 8/16, 1: 8/16, 2: 8/16",
    },
}


def settings_of(group):
    return resolve(Layer("run", {**VALUES, "progressive": group})).config


def test_lora_has_the_flops_and_everything_else_but_growing():
    values = flatten(lora_settings(VALUES, 1e12))
    assert values == {
        "task": "text-generation",
        "model_name": "starter",
        "dataset": "rows.jsonl",
        "compute_specs": "low_end",
        "learning_rate": 3e-4,
        "optimizer.adapter_lr": 2e-4,
        "trainer.seed": 7,
        "trainer.target_flops": 1e12,
    }


def test_all_layers_are_added_in_one_stage():
    group = VALUES["progressive"]
    found = at_once_settings(VALUES, settings_of(group), 90)
    one = found["progressive"]
    assert one == {
        "enabled": True,
        "mode": "fused",
        "stages": 1,
        "layers_per_stage": 6,
        "steps_per_stage": 90,
    }
    assert {name: value for name, value in found.items() if name != "progressive"} == {
        name: value for name, value in VALUES.items() if name != "progressive"
    }


def test_single_layers_become_a_block():
    group = {"enabled": True, "mode": "layerwise", "stages": 3}
    assert at_once_settings(VALUES, settings_of(group), 9)["progressive"]["mode"] == "blockwise"


@pytest.mark.parametrize("joint", [0, 5])
def test_the_steps_take_the_same_flops(joint):
    staged = make_plan(
        config({"stages": 3, "steps_per_stage": 200, "joint_tuning_steps": joint}), CONTEXT
    )
    group = {"stages": 1, "layers_per_stage": 3, "joint_tuning_steps": joint}
    first = make_plan(config({**group, "steps_per_stage": 600}), CONTEXT)
    steps = steps_for(staged.flops, first.growing)
    # A stage with all new layers has more backward passes.
    assert steps < 600
    same = make_plan(config({**group, "steps_per_stage": steps}), CONTEXT)
    assert same.flops == pytest.approx(staged.flops, rel=0.005)


def test_what_cannot_be_compared_is_said():
    assert why_not(settings_of({"enabled": True}), Way.LORA) == ""
    assert why_not(settings_of({"enabled": True}), Way.AT_ONCE) == ""
    assert "at once" in why_not(settings_of({"enabled": True, "stages": 1}), Way.AT_ONCE)
    assert "masked" in why_not(settings_of({"enabled": True, "objective": "mlm"}), Way.LORA)
    values = {name: value for name, value in VALUES.items() if name != "model_name"}
    new = {**values, "pretraining": {"enabled": True}, "progressive": {"enabled": True}}
    assert "no model" in why_not(resolve(Layer("run", new)).config, Way.LORA)
