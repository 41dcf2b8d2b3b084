"""Models that are built from a shape."""

from __future__ import annotations

import pytest

from modelforge.config.pretraining.shape import Architecture, shape_of_depth

pytestmark = pytest.mark.torch


def shape(architecture, *, depth=3, pattern="L", context=32):
    return shape_of_depth(
        depth,
        aspect_ratio=16,
        head_dim=16,
        vocab_size=64,
        context=context,
        architecture=architecture,
        window_pattern=pattern,
    )


def seen_positions(model, position, length=32):
    """Return which input positions the output at a position depends on, by gradient."""
    import torch

    embedded = model.get_input_embeddings()(torch.arange(length)[None] % 60).detach()
    embedded.requires_grad_()
    model(inputs_embeds=embedded).logits[0, position].sum().backward()
    return embedded.grad[0].abs().sum(-1).nonzero().flatten().tolist()


@pytest.mark.parametrize("architecture", list(Architecture))
def test_the_same_seed_gives_the_same_weights(architecture):
    import torch

    from modelforge.modeling.pretraining.build import build_model

    first, second, other = (build_model(shape(architecture), seed=seed) for seed in (1, 1, 2))
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    assert not all(map(torch.equal, first.parameters(), other.parameters()))


@pytest.mark.parametrize("architecture", list(Architecture))
def test_zero_projections_pass_the_embedding_on(architecture):
    import torch

    from modelforge.modeling.pretraining.build import build_model

    ids = torch.arange(8)[None]
    model = build_model(shape(architecture))
    states = model(ids, output_hidden_states=True).hidden_states
    # The last of them is behind the final norm.
    assert all(torch.equal(each, states[0]) for each in states[1:-1])
    model = build_model(shape(architecture), zero_projections=False)
    states = model(ids, output_hidden_states=True).hidden_states
    assert not torch.equal(states[1], states[0])


def test_windowed_layers_see_their_window_and_the_last_layer_everything():
    from modelforge.modeling.pretraining.build import build_model

    one = shape(Architecture.QWEN3, depth=1, context=16)
    three = shape(Architecture.QWEN3, depth=3, pattern="S", context=16)
    assert three.windows == (8, 8, 16)
    full = build_model(one, zero_projections=False)
    assert seen_positions(full, 15, 16) == list(range(16))
    model = build_model(three, zero_projections=False)
    # Cut the model behind its windowed layers: each reaches 7 positions back.
    model.model.layers = model.model.layers[:1]
    model.config.num_hidden_layers = 1
    assert seen_positions(model, 15, 16) == list(range(8, 16))
    model = build_model(three, zero_projections=False)
    model.model.layers = model.model.layers[:2]
    model.config.num_hidden_layers = 2
    assert seen_positions(model, 15, 16) == list(range(1, 16))
    assert seen_positions(build_model(three, zero_projections=False), 15, 16) == list(range(16))


def test_a_model_is_saved_and_loaded_as_any_other(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    from modelforge.modeling.pretraining.build import SpecialIds, build_model

    for architecture in Architecture:
        model = build_model(shape(architecture), SpecialIds(bos=0, eos=1, pad=2))
        model.save_pretrained(tmp_path / architecture)
        again = AutoModelForCausalLM.from_pretrained(tmp_path / architecture)
        ids = torch.arange(9)[None]
        assert torch.equal(model(ids).logits, again(ids).logits)
        assert again.config.eos_token_id == 1
