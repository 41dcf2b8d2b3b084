"""What the plan says of the bytes that a stage keeps, against what autograd does keep."""

from __future__ import annotations

import weakref
from dataclasses import replace

import pytest

from modelforge.config.plan.context import PlanContext
from modelforge.config.plan.make import make_plan
from modelforge.config.progressive.settings import growth_of
from modelforge.config.progressive.stages import stage_plans
from modelforge.config.schema.config import TrainingConfig
from modelforge.models.architecture import read_shape
from modelforge.preflight.memory.growing import kept_by_layer
from tests.preflight.contexts import STARTER

pytestmark = pytest.mark.torch

# Layers need much more than the head, so that their share is nearly that of all.
WIDTHS = {"hidden_size": 64, "intermediate_size": 1024, "vocab_size": 8}
# A mask of windows would be kept, too.
WITHOUT_WINDOWS = {"qwen3": {"use_sliding_window": False, "layer_types": None}}
TOKENS = 256


class Kept:
    """A tensor that autograd keeps, for as long as it does."""

    def __init__(self, tensor):
        self.tensor = tensor


def kept_bytes(model):
    """Return the bytes of tensors that are kept after the forward pass, parameters left out."""
    import torch

    weights = {weight.data_ptr() for weight in model.parameters()}
    alive = weakref.WeakSet()

    def pack(tensor):
        alive.add(kept := Kept(tensor))
        return kept

    ids = torch.arange(TOKENS).view(1, TOKENS) % 5 + 3
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        loss = model(ids, labels=ids, use_cache=False).loss
    storages = {
        kept.tensor.untyped_storage().data_ptr(): kept.tensor.untyped_storage().nbytes()
        for kept in alive
        if kept.tensor.data_ptr() not in weights
    }
    loss.backward()
    return sum(storages.values())


def planned(layers, **group):
    """Return settings and plan of a model of these layers that grows."""
    settings = {
        "task": "text-generation",
        "model_name": "tiny",
        "dataset": "rows.jsonl",
        "compute_specs": "low_end",
        "per_device_train_batch_size": 1,
        "progressive": {"enabled": True, "stages": 1, "steps_per_stage": 1, **group},
    }
    config = TrainingConfig.from_record(settings)
    return config, make_plan(config, PlanContext("cpu", "tiny", kind="decoder", layers=layers))


@pytest.fixture
def measured(build):
    """Return what the last stage of a model keeps, its plan, and its bytes as planned."""
    from modelforge.modeling.growing.adapters import add_stage_adapters
    from modelforge.modeling.growing.freezing import prepare_stage
    from modelforge.modeling.growing.layers import insert_layers

    def of(model_type, layers, **group):
        sizes = {**WIDTHS, "max_position_embeddings": TOKENS, **WITHOUT_WINDOWS.get(model_type, {})}
        model = build(model_type, layers=layers, **sizes).train()
        config, plan = planned(layers, **group)
        growth = growth_of(config, layers)
        stage = stage_plans(growth)[-1]
        insert_layers(model, 1, direction=growth.direction)
        model = add_stage_adapters(model, stage)
        prepare_stage(model, stage)
        info = replace(STARTER, **read_shape(model.config.to_dict()))
        planned_stage = plan.growing.stages[-1]
        return (
            kept_bytes(model),
            planned_stage,
            sum(kept_by_layer(config, plan, info, planned_stage, TOKENS)) * TOKENS,
        )

    return of


@pytest.mark.parametrize("layers", [1, 3, 7])
@pytest.mark.parametrize(
    "group",
    [
        {"stack_lora": False},
        {"stack_rank": 8},
        {"stack_lora": False, "direction": "prepend"},
        {"trunk": "lora", "stack_rank": 8, "trunk_rank": 4},
        {"joint_tuning_steps": 1},
    ],
    ids=["frozen", "stack adapter", "in front", "adapters", "joint"],
)
def test_the_plan_says_what_a_stage_keeps(measured, layers, group):
    kept, stage, estimate = measured("llama", layers, **group)
    assert estimate == pytest.approx(kept, rel=0.04)
    everything, _, _ = measured("llama", layers, joint_tuning_steps=1)
    if not group.get("trunk") and group.get("direction") != "prepend":
        assert stage.saved_share == pytest.approx(kept / everything, abs=0.03)


@pytest.mark.parametrize("model_type", ["qwen3", "smollm3"])
def test_the_plan_knows_other_types_of_models(measured, model_type):
    for group in ({}, {"direction": "prepend"}, {"trunk": "lora"}, {"joint_tuning_steps": 1}):
        kept, _, estimate = measured(model_type, 3, **group)
        assert estimate == pytest.approx(kept, rel=0.06), group
