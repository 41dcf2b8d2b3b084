"""Models of known shapes with random weights; memory and speed depend only on the shape."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, Any]] = {
    # Like Qwen3-0.6B, Gemma-3-270M and a Llama 2, with fewer layers.
    "qwen3": {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 8,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": True,
    },
    "gemma3": {
        "model_type": "gemma3_text",
        "vocab_size": 262144,
        "hidden_size": 640,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "tie_word_embeddings": True,
    },
    "llama": {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 10,
        "num_attention_heads": 12,
        "num_key_value_heads": 12,
        "tie_word_embeddings": False,
    },
}
# On a GPU, full-size models.
GPU_SHAPES: dict[str, dict[str, Any]] = {
    "135M": {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    },
    "0.6B": {**SHAPES["qwen3"], "num_hidden_layers": 28},
    "1.7B": {
        **SHAPES["qwen3"],
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
    },
    "8B": {
        **SHAPES["qwen3"],
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "tie_word_embeddings": False,
    },
}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def make(folder: Path, shape: dict[str, Any], tokens: Path, device: str = "cpu") -> None:
    """Make a model of a shape with random weights, and the tokenizer in `tokens`."""
    if (folder / "model.safetensors").exists() or (
        folder / "model.safetensors.index.json"
    ).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER:
        shutil.copy(tokens / name, folder / name)
    save_random(folder, shape, device)


def save_random(folder: Path, shape: dict[str, Any], device: str, *, pad_token_id: int = 2) -> None:
    """Save a model of a shape with random weights, made on a device."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": pad_token_id}
    kind = {name: value for name, value in shape.items() if name != "model_type"}
    config = AutoConfig.for_model(shape["model_type"], max_position_embeddings=4096, **kind, **ends)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
