"""Files of Stack-Wise, written and read again."""

from __future__ import annotations

import pytest
import yaml

from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.write import export_settings
from modelforge.config.importers.read import import_settings
from modelforge.config.resolve import Layer, resolve
from modelforge.errors import ConfigError
from tests.config.exporters.recipes import config_of

GROWS = {"progressive.enabled": True, "optim": "adamw_torch"}
NEW = {
    **GROWS,
    "model_name": "",
    "pretraining.enabled": True,
    "pretraining.d_model": 64,
    "pretraining.head_dim": 16,
    "progressive.stages": 3,
    "progressive.layers_per_stage": 2,
}
RECIPES = {
    "new": NEW,
    "adapters": {
        **GROWS,
        "progressive.trunk": "lora",
        "progressive.stack_rank": 4,
        "progressive.trunk_alpha": 9,
        "progressive.rank_strategy": "pattern",
        "progressive.rank_pattern": "linear",
        "progressive.alpha_pattern": "decreasing",
        "optimizer.new_layer_lr": 0.001,
        "optimizer.adapter_lr": 0.0001,
    },
    "table": {
        **GROWS,
        "progressive.rank_strategy": "table",
        "progressive.per_stage": "0: 8/16, 1: 4/8",
        "progressive.new_layer_dtype": "bfloat16",
        "progressive.trunk_quantization": "bnb-4bit",
        "progressive.mode": "blockwise",
    },
    "steps": {**GROWS, "progressive.steps_per_stage": 30, "progressive.save_each_stage": True},
    "epochs": {**GROWS, "progressive.epochs_per_stage": 4},
    "masked": {
        **NEW,
        "progressive.objective": "mlm",
        "progressive.mask_by": "depth",
        "progressive.mask_steps": 3,
        "progressive.mask_fractions": [0.1, 0.2, 0.9],
    },
    "schedule": {
        **GROWS,
        "progressive.objective": "mlm",
        "progressive.mask_min": 0.2,
        "progressive.mask_max": 0.8,
        "progressive.mask_schedule": "cosine",
    },
}


def written(recipe):
    return export_settings(Facts(config_of(recipe)), "stack-wise")


def group_of(text):
    recipe = import_settings(text, "config.yaml", "stack-wise").imported.recipe
    given = {"model_name": "owner/model", **recipe, "compute_specs": "low_end"}
    if recipe.get("pretraining"):
        del given["model_name"]
    return resolve(Layer("file", given)).config.progressive


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_written_is_read_again(name):
    exported = written(RECIPES[name])
    config = config_of(RECIPES[name])
    again = group_of(exported.text)
    left = {line.setting for line in exported.report if line.result in ("left-out", "not-needed")}
    differ = {
        field: (value, getattr(again, field))
        for field, value in config.progressive
        if f"progressive.{field}" not in left and getattr(again, field) != value
    }
    assert differ == {}


def test_a_model_is_written_with_its_sizes():
    options = yaml.safe_load(written(NEW).text)
    assert options["model"]["n_layers"] == 6
    assert (options["model"]["d_model"], options["model"]["n_heads"]) == (64, 4)
    assert options["model"]["attention_mode"] == "causal"
    assert (options["training"]["total_blocks"], options["training"]["block_size"]) == (3, 2)
    assert options["training"]["progressive"]["trunk_strategy"] == "frozen"
    assert options["data"]["dataset_path"] == "rows.jsonl"


def test_what_it_does_not_have_is_named():
    left = written(
        {**GROWS, "progressive.direction": "prepend", "progressive.joint_tuning_steps": 9}
    )
    names = {line.setting for line in left.left_out}
    assert names >= {"progressive.direction", "progressive.joint_tuning_steps", "model_name"}


def test_only_models_that_grow_are_written():
    with pytest.raises(ConfigError, match="trains models that grow"):
        written({})
    with pytest.raises(ConfigError, match="does not add layers"):
        export_settings(Facts(config_of(GROWS)), "trl")
