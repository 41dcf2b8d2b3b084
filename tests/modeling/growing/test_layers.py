"""New layers change nothing before they are trained, and the grown model is a normal one."""

from __future__ import annotations

import pytest

from modelforge.config.progressive.checks import GROWABLE
from modelforge.config.progressive.stages import Direction
from tests.modeling.growing.conftest import TYPES

pytestmark = pytest.mark.torch

BOTH_ENDS = pytest.mark.parametrize("direction", list(Direction))


def logits(model, ids):
    import torch

    with torch.no_grad():
        return model(ids).logits


def disturb(model, layers):
    """Give the output projections of layers random weights, as training does."""
    import torch

    from modelforge.modeling.growing.layers import decoder_layers

    for index in layers:
        for name, weight in decoder_layers(model)[index].named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "fc2.weight")):
                torch.nn.init.normal_(weight, std=0.5)


def test_every_growable_type_is_tried():
    assert set(TYPES) == GROWABLE


@BOTH_ENDS
@pytest.mark.parametrize("model_type", TYPES)
def test_growth_leaves_every_logit_as_it_was(build, ids, tmp_path, model_type, direction):
    import torch
    from transformers import AutoModelForCausalLM

    from modelforge.modeling.growing.layers import insert_layers

    model = build(model_type)
    before = logits(model, ids)
    new = insert_layers(model, 2, direction=direction)
    assert (logits(model, ids) - before).abs().max() == 0.0
    assert list(new) == ([0, 1] if direction is Direction.PREPEND else [3, 4])
    model.save_pretrained(tmp_path / "grown")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "grown")
    assert (logits(again, ids) - before).abs().max() == 0.0
    # Trained layers change the logits, and they too survive.
    disturb(model, new)
    trained = logits(model, ids)
    assert (trained - before).abs().max() > 0.01
    model.save_pretrained(tmp_path / "trained")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "trained")
    assert torch.equal(logits(again, ids), trained)
    # Generation needs the right index of every layer for its key-value cache.
    ways = [
        again.generate(ids, max_new_tokens=5, do_sample=False, use_cache=use_cache)
        for use_cache in (True, False)
    ]
    assert torch.equal(*ways)


def test_the_config_describes_the_new_layers(build):
    from modelforge.modeling.growing.layers import insert_layers

    full, sliding = "full_attention", "sliding_attention"
    model = build("qwen2")
    assert model.config.layer_types == [full, full, sliding]
    insert_layers(model, 2)
    assert model.config.num_hidden_layers == 5
    assert model.config.layer_types == [full, full, sliding, sliding, sliding]
    assert model.config.max_window_layers == 2
    insert_layers(model, 1, direction=Direction.PREPEND)
    assert model.config.layer_types == [full, full, full, sliding, sliding, sliding]
    assert model.config.max_window_layers == 3
    model = build("qwen2", use_sliding_window=False)
    insert_layers(model, 2)
    assert model.config.max_window_layers == 5
    model = build("smollm3")
    insert_layers(model, 1, direction=Direction.PREPEND)
    assert model.config.no_rope_layers == [1, 1, 1, 0]
    model = build("deepseek_v3")
    insert_layers(model, 2)
    assert model.config.first_k_dense_replace == 5


@BOTH_ENDS
@pytest.mark.parametrize("architecture", ["nanochat", "llama", "qwen3"])
def test_a_model_from_nothing_grows(ids, architecture, direction):
    from modelforge.config.pretraining.shape import Architecture, shape_of_depth
    from modelforge.modeling.growing.layers import insert_layers
    from modelforge.modeling.pretraining.build import build_model

    sizes = {"aspect_ratio": 8, "head_dim": 8, "vocab_size": 48, "context": 32}
    shape = shape_of_depth(2, **sizes, architecture=Architecture(architecture), window_pattern="SL")
    model = build_model(shape, zero_projections=False).eval()
    before = logits(model, ids)
    insert_layers(model, 2, direction=direction)
    assert (logits(model, ids) - before).abs().max() == 0.0


def test_new_weights_depend_on_the_seed_alone(build):
    import torch

    from modelforge.modeling.growing.layers import decoder_layers, insert_layers

    weights = []
    for seed in (1, 1, 2):
        model = build()
        torch.manual_seed(seed * 17 + len(weights))
        state = torch.get_rng_state()
        insert_layers(model, 1, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        weights.append(decoder_layers(model)[3].self_attn.q_proj.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@BOTH_ENDS
@pytest.mark.parametrize(("trunk", "new"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_a_stack_of_another_precision_changes_nothing_and_trains(build, ids, trunk, new, direction):
    import torch

    from modelforge.modeling.growing.layers import decoder_layers, insert_layers

    trunk, new = getattr(torch, trunk), getattr(torch, new)
    model = build(dtype=trunk)
    before = logits(model, ids)
    layers = insert_layers(model, 2, direction=direction, dtype=new)
    assert (logits(model, ids) - before).abs().max() == 0.0
    projection = decoder_layers(model)[layers[0]].mlp.down_proj.weight
    model(ids, labels=ids).loss.backward()
    assert projection.dtype == projection.grad.dtype == new
    assert projection.grad.abs().max() > 0
    disturb(model, layers)
    assert (logits(model, ids) - before).abs().max() > 0.01


def test_a_narrower_stack_computes_nearly_what_it_does_in_a_wide_model(build, ids):
    import torch

    from modelforge.modeling.growing.layers import decoder_layers, insert_layers

    model = build()
    insert_layers(model, 1, dtype=torch.bfloat16)
    disturb(model, [3])
    layer = decoder_layers(model)[3]
    assert layer.self_attn.o_proj.weight.dtype == torch.bfloat16
    mixed = logits(model, ids)
    del layer.forward
    wide = logits(model.float(), ids)
    assert 0 < (mixed - wide).abs().max() < 0.05 * wide.abs().max()


def test_other_types_and_experts_are_refused(build):
    from transformers import GPT2Config, GPT2LMHeadModel

    from modelforge.modeling.growing.layers import insert_layers

    other = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=8))
    experts = build("deepseek_v3", first_k_dense_replace=1, n_routed_experts=4, n_group=1)
    for model in (other, experts):
        with pytest.raises(ValueError, match="cannot be added"):
            insert_layers(model, 1)
