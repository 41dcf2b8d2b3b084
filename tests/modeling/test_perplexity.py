"""Perplexity and bits per byte against worked examples."""

from __future__ import annotations

import math

import pytest

# torchmetrics emits deprecation warnings of its own.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def test_perplexity_and_bits_per_byte_equal_a_worked_example():
    import torch

    from modelforge.modeling.perplexity import PerplexityMeter

    meter = PerplexityMeter(size=12)
    # Three tokens at ln 8 each and one at ln 2; the first label has no prediction.
    meter.add(math.log(8), torch.tensor([[5, 1, 2, 3, -100]]))
    meter.add(math.log(2), torch.tensor([[-100, -100, 7]]))
    metrics = meter.metrics
    assert metrics["perplexity"] == pytest.approx((8**3 * 2) ** (1 / 4))
    assert metrics["bits_per_byte"] == pytest.approx((3 * 3 + 1) / 12)
    meter.reset()
    assert meter.metrics == {}


def test_only_trained_text_counts_as_bytes(tiny_model):
    from transformers import AutoTokenizer

    from modelforge.modeling.perplexity import count_text_bytes

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    ids = tokenizer("Grüße, 🌙!", add_special_tokens=False)["input_ids"]
    row = [-100, -100, *ids, tokenizer.eos_token_id]
    assert count_text_bytes([row, [-100]], tokenizer) == len("Grüße, 🌙!".encode())
