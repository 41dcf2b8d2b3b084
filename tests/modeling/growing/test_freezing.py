"""What is frozen has no gradients, no state in the optimizer and no saved activations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.config.progressive.stages import (
    Direction,
    Growth,
    RateGroup,
    stage_plans,
)

pytestmark = pytest.mark.torch

RATES = {RateGroup.TRUNK: 1e-4, RateGroup.BLOCK: 5e-4, RateGroup.ADAPTERS: 1e-5}
GROWTH = Growth(base_layers=3, stages=1, layers_per_stage=1)


def saved_bytes(model, ids):
    """Return the bytes of tensors that autograd saves for a step, parameters left out."""
    import torch

    weights = {weight.data_ptr() for weight in model.parameters()}
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if tensor.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(ids, labels=ids, use_cache=False).loss.backward()
    return sum(saved.values())


def with_gradients(model):
    return {
        name.removeprefix("model.").removesuffix(".weight")
        for name, weight in model.named_parameters()
        if weight.grad is not None and weight.grad.abs().max() > 0
    }


@pytest.mark.parametrize("direction", list(Direction))
def test_only_the_zeroed_projections_have_gradients_in_the_first_step(build, ids, direction):
    from modelforge.modeling.growing.freezing import prepare_stage
    from modelforge.modeling.growing.layers import insert_layers

    model = build("qwen3").train()
    (stage,) = stage_plans(replace(GROWTH, direction=direction))
    (new,) = insert_layers(model, 1, direction=direction)
    prepare_stage(model, stage)
    model(ids, labels=ids).loss.backward()
    parts = ("self_attn.o_proj", "mlp.down_proj")
    assert with_gradients(model) == {f"layers.{new}.{part}" for part in parts}
    frozen = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert frozen == [name for name, _ in model.named_parameters() if f"layers.{new}." not in name]


def test_a_frozen_stage_leaves_the_trunk_bit_identical_and_lowers_the_loss(build, ids):
    import torch

    from modelforge.modeling.growing.freezing import parameter_groups, prepare_stage
    from modelforge.modeling.growing.layers import insert_layers

    model = build().train()
    trunk = {name: weight.clone() for name, weight in model.state_dict().items()}
    insert_layers(model, 1)
    (stage,) = stage_plans(GROWTH)
    frozen = prepare_stage(model, stage)
    groups = parameter_groups(model, stage, {**RATES, RateGroup.BLOCK: 0.01})
    assert [(group["name"], group["lr"]) for group in groups] == [("block", 0.01)]
    optimizer = torch.optim.AdamW(groups)
    losses = []
    for _ in range(8):
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05
    after = model.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in trunk.items())
    new = [weight for name, weight in model.named_parameters() if "layers.3." in name]
    assert set(map(id, optimizer.state)) == set(map(id, new))
    frozen.release()


@pytest.mark.parametrize("inputs_require_grads", [False, True])
def test_saved_activations_fall_to_those_of_the_new_layers(build, inputs_require_grads):
    import torch

    from modelforge.modeling.growing.freezing import prepare_stage
    from modelforge.modeling.growing.layers import insert_layers

    # Layers need much more than the head, so that their share is nearly that of all.
    sizes = {"hidden_size": 64, "intermediate_size": 256, "vocab_size": 8}
    ids = torch.arange(256).view(2, 128) % 5 + 3

    def measured(direction=None):
        model = build(layers=7, max_position_embeddings=128, **sizes).train()
        insert_layers(model, 1, direction=direction or Direction.APPEND)
        if inputs_require_grads:
            # As PEFT and TRL do for gradient checkpointing, whatever is frozen.
            model.enable_input_require_grads()
        if direction is None:
            return saved_bytes(model, ids), 1.0
        (stage,) = stage_plans(replace(GROWTH, base_layers=7, direction=direction))
        prepare_stage(model, stage)
        return saved_bytes(model, ids), stage.saved_share

    everything, _ = measured()
    appended, share = measured(Direction.APPEND)
    assert share == pytest.approx(1 / 8)
    assert share < appended / everything < share + 0.05
    prepended, share = measured(Direction.PREPEND)
    assert share == 1
    # Gradients pass through the frozen layers above, which save most of what trained ones do.
    assert 0.6 < prepended / everything < 1


def test_only_the_new_layers_are_recomputed(build, ids):
    from modelforge.modeling.growing.freezing import prepare_stage
    from modelforge.modeling.growing.layers import decoder_layers, insert_layers

    model = build().train()
    insert_layers(model, 1)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    prepare_stage(model, stage_plans(GROWTH)[0])
    runs = [0] * 4
    for index, layer in enumerate(decoder_layers(model)):

        def count(*_, index=index):
            runs[index] += 1

        layer.mlp.register_forward_pre_hook(count)
    model(ids, labels=ids, use_cache=False).loss.backward()
    assert runs == [1, 1, 1, 2]


def test_a_released_trunk_trains_with_the_rest_in_the_joint_stage(build, ids):
    from modelforge.modeling.growing.freezing import parameter_groups, prepare_stage
    from modelforge.modeling.growing.layers import decoder_layers, insert_layers

    model = build(tie_word_embeddings=True).train()
    first, joint = stage_plans(replace(GROWTH, ends_jointly=True))
    insert_layers(model, 1)
    frozen = prepare_stage(model, first)
    states = []
    decoder_layers(model)[2].register_forward_hook(lambda *parts: states.append(parts[-1]))
    model(ids)
    assert not states[0].requires_grad
    frozen.release()
    prepare_stage(model, joint)
    model(ids, labels=ids).loss.backward()
    assert states[1].requires_grad
    # Those of the new layer alone wait for its projections.
    without = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    assert without == set()
    assert {"embed_tokens", "norm", "layers.0.mlp.gate_proj"} <= with_gradients(model)
    (group,) = parameter_groups(model, joint, RATES)
    assert (group["name"], group["lr"]) == ("trunk", 1e-4)
    assert len(group["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize("freezes", [False, True])
def test_the_first_stage_from_nothing_trains_the_head_and_its_embeddings(build, ids, freezes):
    from modelforge.modeling.growing.freezing import parameter_groups, prepare_stage

    model = build(layers=1).train()
    growth = Growth(0, 1, 1, freezes_embeddings=freezes)
    (stage,) = stage_plans(growth)
    prepare_stage(model, stage)
    model(ids, labels=ids).loss.backward()
    outside = {"norm", "lm_head"} | (set() if freezes else {"embed_tokens"})
    found = {name for name in with_gradients(model) if not name.startswith("layers.")}
    assert found == outside
    groups = parameter_groups(model, stage, RATES)
    assert [(group["name"], len(group["params"])) for group in groups] == [
        ("trunk", len(outside)),
        ("block", len(list(model.model.layers.parameters()))),
    ]
