"""Build a causal language model of random weights from its shape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    NanoChatConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

from modelforge.config.pretraining.shape import Architecture, ModelShape, layer_types
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError

# Projections that write into the hidden states, by the ends of their names.
OUTPUT_PROJECTIONS = ("o_proj.weight", "down_proj.weight", "fc2.weight")


# The embedding of tokens, by the end of its name.
EMBEDDING = "embed_tokens.weight"


@dataclass(frozen=True)
class SpecialIds:
    """Ids of the special tokens of the tokenizer."""

    bos: int
    eos: int
    pad: int


def model_config(
    shape: ModelShape,
    special: SpecialIds | None = None,
    *,
    rope_theta: float = 10_000.0,
    dropout: float = 0.0,
) -> PreTrainedConfig:
    """Return the configuration of Transformers for a shape."""
    sizes: dict[str, Any] = {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.width,
        "intermediate_size": shape.mlp_width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": shape.context,
        "tie_word_embeddings": shape.is_tied,
        "attention_dropout": dropout,
        "rope_parameters": {"rope_type": "default", "rope_theta": rope_theta},
        "bos_token_id": special.bos if special else None,
        "eos_token_id": special.eos if special else None,
        "pad_token_id": special.pad if special else None,
    }
    if shape.architecture is Architecture.NANOCHAT:
        return NanoChatConfig(**sizes)
    if shape.architecture is Architecture.LLAMA:
        return LlamaConfig(**sizes, head_dim=shape.head_dim)
    types = layer_types(shape.windows, shape.context)
    window = min(shape.windows)
    return Qwen3Config(
        **sizes,
        head_dim=shape.head_dim,
        use_sliding_window=window < shape.context,
        sliding_window=window,
        max_window_layers=0,
        layer_types=types,
    )


def build_model(
    shape: ModelShape,
    special: SpecialIds | None = None,
    *,
    seed: int = 0,
    zero_projections: bool = True,
    rope_theta: float = 10_000.0,
    dropout: float = 0.0,
) -> PreTrainedModel:
    """Return a model of random float32 weights, the same for the same seed.

    With `zero_projections` the last matrix of attention and of the MLP is zero, so that each layer
    passes on what it gets until it is trained.
    """
    config = model_config(shape, special, rope_theta=rope_theta, dropout=dropout)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if zero_projections:
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name.endswith(OUTPUT_PROJECTIONS):
                    weight.zero_()
    return model


def take_embeddings(model: PreTrainedModel, folder: Path) -> None:
    """Replace the embeddings of a model by the first rows of those of the model in `folder`.

    Raises:
        WorkerError: the folder has none, of this width for all tokens.
    """
    weight = model.get_input_embeddings().weight
    rows, width = weight.shape
    found = read_embeddings(folder)
    if found is None or found.shape[0] < rows or found.shape[1] != width:
        size = "none" if found is None else f"{found.shape[0]:,} of {found.shape[1]:,} numbers"
        what = f"{folder.name} has {size}; {rows:,} embeddings of {width:,} numbers are needed."
        remedy = "Choose another model, or set pretraining.freeze_embeddings to false."
        problem = Problem("pretraining.freeze_embeddings", what, remedy)
        raise WorkerError("embeddings-missing", problem)
    with torch.no_grad():
        weight.copy_(found[:rows])


def read_embeddings(folder: Path) -> torch.Tensor | None:
    """Return the embeddings in the weights of a folder, (tokens, width); None without any."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                if name.endswith(EMBEDDING):
                    tensor: torch.Tensor = file.get_tensor(name)
                    return tensor
    return None
