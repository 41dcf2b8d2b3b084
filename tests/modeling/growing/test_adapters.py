"""Adapters of stacks and trunk train together, and merge into a normal model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.config.progressive.adapter_sizes import (
    AdapterSize,
    Pattern,
    SizeStrategy,
    StackSizes,
)
from modelforge.config.progressive.stages import (
    Direction,
    Growth,
    RateGroup,
    Trunk,
    stage_plans,
)

pytestmark = pytest.mark.torch

RATES = {RateGroup.TRUNK: 1e-4, RateGroup.BLOCK: 1e-2, RateGroup.ADAPTERS: 5e-3}
SIZES = StackSizes(AdapterSize(2, 4), SizeStrategy.PATTERN, Pattern.INCREASING, Pattern.LINEAR)
GROWTH = Growth(
    base_layers=2,
    stages=2,
    layers_per_stage=1,
    trunk=Trunk.LORA,
    stack_sizes=SIZES,
    trunk_size=AdapterSize(3, 6),
)


def grown(build, growth, stage, model_type="llama", **changes):
    from modelforge.modeling.growing.adapters import add_stage_adapters
    from modelforge.modeling.growing.freezing import prepare_stage
    from modelforge.modeling.growing.layers import insert_layers

    model = build(model_type, layers=growth.base_layers, **changes).train()
    for index in range(stage + 1):
        insert_layers(model, growth.layers_per_stage, direction=growth.direction, seed=index)
    plan = stage_plans(growth)[stage]
    adapted = add_stage_adapters(model, plan)
    prepare_stage(adapted, plan)
    return adapted, plan


def train(model, plan, ids, steps=4):
    import torch

    from modelforge.modeling.growing.freezing import parameter_groups

    optimizer = torch.optim.AdamW(parameter_groups(model, plan, RATES))
    for _ in range(steps):
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def layers_with(model, adapter):
    return {
        int(name.partition("layers.")[2].partition(".")[0])
        for name, _ in model.named_parameters()
        if f"lora_B.{adapter}." in name
    }


@pytest.mark.parametrize("direction", list(Direction))
def test_ranks_and_scales_are_those_of_the_plan(build, direction):
    model, plan = grown(build, replace(GROWTH, direction=direction), 1)
    stack, trunk = plan.adapters
    assert layers_with(model, "stack") == set(stack.sizes)
    assert layers_with(model, "trunk") == set(trunk.sizes)
    newest, older = (0, 1) if direction is Direction.PREPEND else (3, 2)
    # Rank 2 x 2^1 and alpha 4 + 16 in the second stack.
    for layer, rank, alpha in ((newest, 4, 20), (older, 2, 4)):
        for part in ("q_proj", "o_proj"):
            module = getattr(model.get_decoder().layers[layer].self_attn, part)
            assert module.r["stack"] == rank
            assert module.lora_A["stack"].weight.shape[0] == rank
            assert module.scaling["stack"] == pytest.approx(alpha / rank)
    assert model.get_decoder().layers[older].mlp.up_proj.r == {"stack": 2, "trunk": 3}


@pytest.mark.parametrize(
    ("model_type", "parts"),
    [
        ("llama", {"self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"}),
        ("nanochat", {"self_attn.q_proj", "self_attn.o_proj", "mlp.fc1", "mlp.fc2"}),
        ("deepseek_v3", {"self_attn.q_a_proj", "self_attn.kv_b_proj", "self_attn.o_proj"}),
    ],
)
def test_all_linear_layers_have_adapters_of_deepseek_those_of_attention(build, model_type, parts):
    model, _ = grown(build, GROWTH, 0, model_type)
    found = {
        name.partition("layers.2.")[2].partition(".lora_B")[0]
        for name, _ in model.named_parameters()
        if ".lora_B.stack." in name
    }
    assert parts <= found
    assert any(name.startswith("mlp.") for name in found) is (model_type != "deepseek_v3")


def test_new_adapters_change_nothing(build, ids):
    import torch

    from modelforge.modeling.growing.adapters import add_stage_adapters

    model = build(layers=4)
    before = model(ids).logits
    adapted = add_stage_adapters(model, stage_plans(GROWTH)[1])
    assert torch.equal(adapted(ids).logits, before)


def test_both_adapters_get_gradients_and_the_weights_of_the_new_stack(build, ids):
    model, _ = grown(build, GROWTH, 1)
    model(ids, labels=ids).loss.backward()
    moved = {
        name
        for name, weight in model.named_parameters()
        if weight.grad is not None and weight.grad.abs().max() > 0
    }
    for adapter, layers in (("stack", {2, 3}), ("trunk", {0, 1, 2})):
        found = {
            int(name.partition("layers.")[2].partition(".")[0])
            for name in moved
            if f"lora_B.{adapter}." in name
        }
        assert found == layers
    weights = {name for name in moved if "lora_" not in name}
    parts = ("self_attn.o_proj", "mlp.down_proj")
    assert {name.partition("layers.")[2] for name in weights} == {
        f"3.{part}.base_layer.weight" for part in parts
    } | {"3.self_attn.o_proj.base_layer.bias", "3.mlp.down_proj.base_layer.bias"}


@pytest.mark.parametrize("model_type", ["llama", "nanochat", "deepseek_v3"])
def test_the_merged_model_computes_what_both_adapters_do(build, ids, tmp_path, model_type):
    import torch
    from transformers import AutoModelForCausalLM

    model, plan = grown(build, GROWTH, 1, model_type, initializer_range=0.02)
    before = model(ids).logits.detach()
    train(model, plan, ids)
    model.eval()
    dual = model(ids).logits.detach()
    assert (dual - before).abs().max() > 1e-3
    merged = model.merge_and_unload(adapter_names=["stack", "trunk"])
    assert (merged(ids).logits - dual).abs().max() < 1e-6
    merged.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not [name for name in again.state_dict() if "lora" in name]
    assert torch.equal(again(ids).logits, merged(ids).logits)


@pytest.mark.parametrize("direction", list(Direction))
def test_stages_follow_one_another_on_the_merged_model(build, ids, direction):
    import torch

    from modelforge.modeling.growing.adapters import add_stage_adapters
    from modelforge.modeling.growing.freezing import prepare_stage
    from modelforge.modeling.growing.layers import decoder_layers, insert_layers

    growth = replace(GROWTH, direction=direction, ends_jointly=True)
    model, losses = build(layers=2, initializer_range=0.1).train(), []
    for stage in stage_plans(growth):
        before = model(ids, labels=ids)
        if stage.new_layers:
            new = insert_layers(model, growth.layers_per_stage, direction=direction)
            assert new == stage.new_layers
        assert len(decoder_layers(model)) == stage.layers
        adapted = add_stage_adapters(model, stage)
        assert torch.equal(adapted(ids).logits, before.logits)
        frozen = prepare_stage(adapted, stage)
        train(adapted, stage, ids)
        frozen.release()
        model = model if adapted is model else adapted.merge_and_unload()
        losses.append(before.loss.item())
    losses.append(model(ids, labels=ids).loss.item())
    assert losses[-1] < losses[0] - 0.1
    assert not [name for name in model.state_dict() if "lora" in name]


def test_groups_have_the_rates_of_weights_and_adapters(build):
    from modelforge.modeling.growing.freezing import parameter_groups

    model, plan = grown(build, GROWTH, 1)
    groups = {group["name"]: group for group in parameter_groups(model, plan, RATES)}
    assert {name: group["lr"] for name, group in groups.items()} == {
        "block": 1e-2,
        "adapters": 5e-3,
    }
    names = {id(weight): name for name, weight in model.named_parameters()}
    assert all("lora_" in names[id(each)] for each in groups["adapters"]["params"])
    assert all(".layers.3." in names[id(each)] for each in groups["block"]["params"])


@pytest.mark.parametrize("is_tied", [False, True])
def test_the_counted_parameters_are_those_that_train(is_tied):
    from modelforge.config.pretraining.shape import Architecture, shape_of_depth
    from modelforge.config.progressive.cost import sizes_of_shape, stage_cost
    from modelforge.modeling.growing.adapters import add_stage_adapters
    from modelforge.modeling.growing.freezing import prepare_stage
    from modelforge.modeling.pretraining.build import build_model

    options = {"aspect_ratio": 8, "head_dim": 8, "vocab_size": 48, "context": 32}
    checked = 0
    for architecture in Architecture:
        for stage in stage_plans(replace(GROWTH, base_layers=0, ends_jointly=True)):
            shape = shape_of_depth(stage.layers, **options, architecture=architecture)
            shape = replace(shape, is_tied=is_tied)
            model = add_stage_adapters(build_model(shape), stage)
            prepare_stage(model, stage)
            cost = stage_cost(stage, sizes_of_shape(shape))
            weights = dict(model.named_parameters())
            trained = [weight.numel() for weight in weights.values() if weight.requires_grad]
            adapters = [weight.numel() for name, weight in weights.items() if "lora_" in name]
            assert (cost.trained, cost.adapters) == (sum(trained), sum(adapters))
            assert cost.parameters + cost.adapters == sum(
                weight.numel() for weight in weights.values()
            )
            checked += 1
    assert checked == 9


def test_a_frozen_trunk_has_no_adapter_and_saves_nothing(build, ids):
    growth = replace(GROWTH, trunk=Trunk.FROZEN)
    model, _ = grown(build, growth, 1)
    assert layers_with(model, "stack") == {3}
    assert layers_with(model, "trunk") == set()
    states = []
    model.get_decoder().layers[2].register_forward_hook(lambda *parts: states.append(parts[-1]))
    model(ids, labels=ids).loss.backward()
    assert not states[0].requires_grad


def test_a_stage_without_adapters_leaves_the_model_alone(build):
    from modelforge.modeling.growing.adapters import add_stage_adapters

    model = build()
    plan = stage_plans(replace(GROWTH, stack_sizes=None, trunk_size=None))[0]
    assert add_stage_adapters(model, plan) is model


def test_a_stack_grows_on_a_trunk_in_4_bit(build, ids, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from modelforge.modeling.growing.adapters import add_stage_adapters
    from modelforge.modeling.growing.freezing import prepare_stage
    from modelforge.modeling.growing.layers import decoder_layers, insert_layers

    build(hidden_size=64, intermediate_size=64).save_pretrained(tmp_path)
    kind = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=kind).train()
    with torch.no_grad():
        before = model(ids).logits
        insert_layers(model, 1, dtype=torch.float32)
        assert (model(ids).logits - before).abs().max() == 0.0
    (plan,) = stage_plans(replace(GROWTH, base_layers=3, stages=1))
    adapted = add_stage_adapters(model, plan)
    prepare_stage(adapted, plan)
    kinds = [type(layer.mlp.up_proj).__name__ for layer in decoder_layers(adapted)]
    assert kinds == ["Linear4bit"] * 3 + ["Linear"]
    train(adapted, plan, ids, steps=2)
    for name, weight in adapted.named_parameters():
        if ".lora_B." in name or ".layers.3.self_attn.o_proj.base_layer.weight" in name:
            assert weight.abs().max() > 0, name
