"""Borrowed token embeddings."""

from __future__ import annotations

import pytest

from modelforge.config.progressive.stages import Growth, stage_plans

pytestmark = pytest.mark.torch


def source(width, tokens=48):
    import torch

    return torch.randn(tokens, width, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("is_tied", [False, True])
def test_weights_of_the_same_size_are_copied(build, is_tied):
    import torch

    from modelforge.modeling.growing.embeddings import borrow_embeddings

    model = build(tie_word_embeddings=is_tied)
    borrow_embeddings(model, source(16))
    assert torch.equal(model.get_input_embeddings().weight, source(16))
    assert torch.equal(model.get_output_embeddings().weight, source(16)) is is_tied


def test_an_adapter_trains_while_what_is_borrowed_does_not(build, ids):
    import torch

    from modelforge.modeling.growing.embeddings import borrow_embeddings
    from modelforge.modeling.growing.freezing import prepare_stage

    model = build(layers=1).train()
    borrow_embeddings(model, source(24), adapter=8)
    prepare_stage(model, stage_plans(Growth(0, 1, 1))[0])
    optimizer = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=0.1)
    model(ids, labels=ids).loss.backward()
    embedding = model.get_input_embeddings()
    assert embedding.down.weight.grad.abs().max() > 0
    assert embedding.up.weight.grad.abs().max() > 0
    optimizer.step()
    assert torch.equal(embedding.source.weight, source(24))


def test_a_folded_model_is_a_normal_one_and_computes_the_same(build, ids, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    from modelforge.modeling.growing.embeddings import borrow_embeddings, fold_embeddings

    model = build()
    names = list(model.state_dict())
    plain = model(ids).logits
    borrow_embeddings(model, source(24), adapter=8)
    before = model(ids).logits
    assert (before - plain).abs().max() > 0.1
    fold_embeddings(model)
    fold_embeddings(model)
    torch.testing.assert_close(model(ids).logits, before, rtol=1e-4, atol=1e-5)
    assert list(model.state_dict()) == names
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(ids).logits, model(ids).logits)


def test_the_adapter_depends_on_the_seed_alone(build):
    import torch

    from modelforge.modeling.growing.embeddings import borrow_embeddings

    weights = []
    for seed in (1, 1, 2):
        model = build()
        torch.manual_seed(len(weights))
        borrow_embeddings(model, source(24), adapter=8, seed=seed)
        weights.append(model.get_input_embeddings().weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_sizes_that_differ_and_tied_heads_are_refused(build):
    from modelforge.modeling.growing.embeddings import borrow_embeddings

    for weights, adapter in ((source(24), None), (source(16, 50), None), (source(24, 50), 8)):
        with pytest.raises(ValueError, match="same size"):
            borrow_embeddings(build(), weights, adapter=adapter)
    with pytest.raises(ValueError, match="tied"):
        borrow_embeddings(build(tie_word_embeddings=True), source(24), adapter=8)
