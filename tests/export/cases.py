"""Small random models of each type that can be written as GGUF."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer

# Tokens of a small tokenizer; most of the time and space of a small model is its vocabulary.
SMALL = 2048
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
HEADS = {"head_dim": 64}
_ROPE = {"rope_theta": 10_000.0}
LLAMA3 = _ROPE | {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONG = _ROPE | {
    "rope_type": "longrope",
    "short_factor": [1.0 + i / 100 for i in range(32)],
    "long_factor": [1.0 + i / 10 for i in range(32)],
    "original_max_position_embeddings": 512,
}
GRANITE = {
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.05,
    "residual_multiplier": 0.22,
    "logits_scaling": 0.5,
}
GEMMA = {"query_pre_attn_scalar": 64, "sliding_window": 16}
# Name of the case → class of the config and its settings.
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", HEADS),
    "llama-tied": ("Llama", HEADS | {"tie_word_embeddings": True}),
    "llama-llama3": ("Llama", HEADS | {"rope_parameters": LLAMA3}),
    "llama-linear": (
        "Llama",
        HEADS | {"rope_parameters": _ROPE | {"rope_type": "linear", "factor": 2.0}},
    ),
    "llama-bias": ("Llama", HEADS | {"attention_bias": True, "mlp_bias": True}),
    "mistral": ("Mistral", HEADS | {"sliding_window": None}),
    "smollm3": ("SmolLM3", {}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", HEADS),
    "qwen3-yarn": (
        "Qwen3",
        HEADS
        | {
            "rope_parameters": _ROPE
            | {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
        },
    ),
    "gemma2": ("Gemma2", HEADS | GEMMA),
    "gemma3": ("Gemma3Text", HEADS | GEMMA),
    "phi3": ("Phi3", {}),
    "phi3-long": (
        "Phi3",
        {
            "max_position_embeddings": 4096,
            "rope_parameters": LONG,
            "original_max_position_embeddings": 512,
        },
    ),
    "granite": ("Granite", GRANITE),
}


def small_tokenizer(tokenizer: Any) -> Any:
    """Return the starter's tokenizer with its first tokens only, all special ones among them."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    model = state["model"]
    vocabulary = {text: number for text, number in model["vocab"].items() if number < SMALL}
    model["vocab"] = vocabulary
    model["merges"] = [
        pair for pair in model["merges"] if {*pair, "".join(pair)} <= vocabulary.keys()
    ]
    names = ("bos_token", "eos_token", "pad_token", "unk_token", "chat_template")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        **{name: getattr(tokenizer, name) for name in names},
    )


def make_model(case: str, folder: Path, tokenizer: Any, **settings: Any) -> Any:
    """Save the model of a case, with random weights that differ from layer to layer."""
    name, own = CONFIGS[case]
    values = SHAPE | {"vocab_size": len(tokenizer)} | own | settings
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**values)
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if key.endswith("norm.weight"):
                weight.add_(torch.randn_like(weight) * 0.2)
            elif key.endswith("bias"):
                weight.copy_(torch.randn_like(weight) * 0.1)
            else:
                weight.mul_(3.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model
