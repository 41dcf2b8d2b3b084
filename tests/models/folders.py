"""Model folders as they lie on a disk: the config of a small Llama, and headers of safetensors."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

SMALL_LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 300,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}


def write_model(folder: Path, shape: dict[str, Any] = SMALL_LLAMA) -> Path:
    """Make a folder that is accepted as a model: config, tokenizer, and one tensor of zeros."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(shape), "utf-8")
    tokenizer = {"chat_template": "{{ messages }}", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer), "utf-8")
    (folder / "tokenizer.json").write_text("{}", "utf-8")
    tensor = {"dtype": "F32", "shape": [300, 64], "data_offsets": [0, 300 * 64 * 4]}
    write_weights(folder, {"model.embed_tokens.weight": tensor}, bytes(300 * 64 * 4))
    return folder


def write_weights(folder: Path, header: dict[str, Any] | bytes, data: bytes = b"") -> None:
    """Write model.safetensors with this header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
