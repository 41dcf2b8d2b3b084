"""Attention on GPUs before Ampere, which take no grouped heads without a mask."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("capability", "is_grouped"), [((7, 5), False), ((8, 6), True), (None, True)]
)
def test_before_ampere_heads_are_repeated_with_the_same_result(monkeypatch, capability, is_grouped):
    import torch
    from transformers.integrations import sdpa_attention

    from modelforge.modeling.providers.huggingface import use_efficient_attention

    grouped = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def watch(*args, **kwargs):
        grouped.append(bool(kwargs.get("enable_gqa")))
        return attend(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watch)
    monkeypatch.setattr(sdpa_attention, "use_gqa_in_sdpa", sdpa_attention.use_gqa_in_sdpa)
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, 6, 8) for heads in (4, 2, 2))
    layer = torch.nn.Module()
    layer.num_key_value_groups, layer.is_causal = 2, True
    usual, _ = sdpa_attention.sdpa_attention_forward(layer, query, key, value, None)
    use_efficient_attention(capability)
    found, _ = sdpa_attention.sdpa_attention_forward(layer, query, key, value, None)
    assert grouped == [True, is_grouped]
    assert torch.allclose(found, usual, atol=1e-6)
