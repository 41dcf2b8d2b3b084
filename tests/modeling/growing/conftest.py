"""Tiny models of all types that can grow, and token batches."""

from __future__ import annotations

import pytest

SIZES = {
    "vocab_size": 48,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Type of the model → further values of its config; mixed layers where the type has them.
TYPES = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": 4},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2},
    "qwen3": {
        "head_dim": 8,
        "use_sliding_window": True,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    },
    "smollm3": {"no_rope_layers": [1, 1, 0], "tie_word_embeddings": True},
    "nanochat": {},
    "deepseek_v3": {
        "num_key_value_heads": 2,
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "first_k_dense_replace": 3,
    },
}


@pytest.fixture
def build():
    """Return a function that builds a model of random weights by its type."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    def built(model_type="llama", *, layers=3, dtype=torch.float32, **changes):
        values = {**SIZES, **TYPES[model_type], "num_hidden_layers": layers, **changes}
        torch.manual_seed(5)
        # Weights this large make the logits differ where anything does.
        values.setdefault("initializer_range", 0.5)
        config = AutoConfig.for_model(model_type, **values)
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()

    return built


@pytest.fixture
def ids():
    """Token ids, (2, 12), with none of the special tokens."""
    import torch

    return torch.randint(3, 48, (2, 12), generator=torch.Generator().manual_seed(7))
