"""Layers compute in float32 while their weights stay in 16 bits."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from modelforge.export.float32 import compute_in_float32

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("adapter", [None, {}, {"use_dora": True}])
def test_logits_are_those_of_the_model_in_float32(adapter):
    torch.manual_seed(0)
    shape = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128}
    config = LlamaConfig(**shape, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    if adapter is not None:
        lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, **adapter)
        model = get_peft_model(model, lora)
    ids = torch.arange(5, 60)[None]
    model.eval()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    with torch.no_grad():
        narrow = model(ids).logits
        compute_in_float32(model)
        compute_in_float32(model)
        wide = model(ids).logits
        after = {name: weight.clone() for name, weight in model.named_parameters()}
        exact = model.float()(ids).logits
    assert wide.dtype == torch.float32
    assert (wide - exact).abs().max() < 1e-5 < (narrow - exact).abs().max()
    assert all(torch.equal(before[name], weight) for name, weight in after.items())
    assert {weight.dtype for weight in before.values()} == {w.dtype for w in after.values()}
