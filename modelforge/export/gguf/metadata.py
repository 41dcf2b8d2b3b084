"""The hyperparameters of a model as GGUF metadata."""

from __future__ import annotations

import math
from typing import Any

import torch
from gguf import MODEL_ARCH, GGUFWriter, RopeScalingType

from modelforge.errors import Problem, RunError
from modelforge.export.gguf.architectures import Architecture

# Settings of YaRN: name in rope_parameters → method of the writer.
_YARN = {
    "attention_factor": "add_rope_scaling_yarn_attn_factor",
    "beta_fast": "add_rope_scaling_yarn_beta_fast",
    "beta_slow": "add_rope_scaling_yarn_beta_slow",
}
_GRANITE_SCALES = {
    "attention_multiplier": "add_attention_scale",
    "embedding_multiplier": "add_embedding_scale",
    "residual_multiplier": "add_residual_scale",
    "logits_scaling": "add_logit_scale",
}


def head_dim(config: Any) -> int:
    """Return the width of one attention head."""
    width = getattr(config, "head_dim", None)
    return int(width or config.hidden_size // config.num_attention_heads)


def add_hyperparameters(writer: GGUFWriter, config: Any, architecture: Architecture) -> None:
    """Write the shape, norms and rotary embedding of a model.

    Raises:
        RunError: llama.cpp has no such rotary embedding.
    """
    arch = architecture.arch
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(_context_length(config, arch))
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    width = head_dim(config)
    if arch is not MODEL_ARCH.PHI3:
        writer.add_key_length(width)
        writer.add_value_length(width)
    writer.add_rope_dimension_count(rope_width(config))
    _add_rope(writer, config)
    if arch in (MODEL_ARCH.GEMMA2, MODEL_ARCH.GEMMA3):
        writer.add_sliding_window(config.sliding_window)
        if config.attn_logit_softcapping:
            writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        if config.final_logit_softcapping:
            writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if arch is MODEL_ARCH.PHI3:
        writer.add_rope_scaling_orig_ctx_len(_original_context(config))
        # Zero means that all layers see everything, as in Phi-4.
        writer.add_sliding_window(config.sliding_window or 0)
    if arch is MODEL_ARCH.GRANITE:
        for name, method in _GRANITE_SCALES.items():
            getattr(writer, method)(getattr(config, name))


def rope_parameters(config: Any) -> dict[str, Any]:
    """Return the parameters of the rotary embedding, those of full attention if there are two."""
    parameters: dict[str, Any] = config.rope_parameters
    full: dict[str, Any] = parameters.get("full_attention", parameters)
    return full


def rope_width(config: Any) -> int:
    """Return how many dimensions of a head are rotated."""
    return int(head_dim(config) * (rope_parameters(config).get("partial_rotary_factor") or 1.0))


def rope_factors(config: Any) -> dict[str, torch.Tensor]:
    """Return the tensors (rope width / 2,) float32 that divide the frequencies, by GGUF name."""
    rope = rope_parameters(config)
    if rope["rope_type"] == "longrope":
        return {
            f"rope_factors_{kind}.weight": torch.tensor(rope[f"{kind}_factor"], dtype=torch.float32)
            for kind in ("long", "short")
        }
    if rope["rope_type"] == "llama3":
        return {"rope_freqs.weight": _llama3_factors(rope, rope_width(config))}
    return {}


def _context_length(config: Any, arch: MODEL_ARCH) -> int:
    """Return the context length; llama.cpp has no sliding attention for Mistral."""
    longest = int(config.max_position_embeddings)
    window = getattr(config, "sliding_window", None)
    return min(longest, window) if arch is MODEL_ARCH.LLAMA and window else longest


def _add_rope(writer: GGUFWriter, config: Any) -> None:
    rope = rope_parameters(config)
    writer.add_rope_freq_base(rope["rope_theta"])
    kind = rope["rope_type"]
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        for name, method in _YARN.items():
            if rope.get(name) is not None:
                getattr(writer, method)(rope[name])
    elif kind == "longrope":
        original = _original_context(config)
        scale = config.max_position_embeddings / original
        factor = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
        writer.add_rope_scaling_attn_factors(rope.get("attention_factor") or factor)
    elif kind not in ("default", "llama3"):
        raise RunError(
            Problem(
                "gguf",
                f"llama.cpp has no rotary embedding of the type {kind} (rope_type).",
                "Export the merged model instead.",
            )
        )


def _original_context(config: Any) -> int:
    original = rope_parameters(config).get("original_max_position_embeddings")
    return int(original or config.original_max_position_embeddings)


def _llama3_factors(rope: dict[str, Any], width: int) -> torch.Tensor:
    """Return by how much Llama 3 divides each frequency: 1 for high ones, `factor` for low ones.

    Between the wavelengths context / high_freq_factor and context / low_freq_factor it is
    interpolated. Source: `_compute_llama3_parameters` of Transformers.
    """
    exponents = torch.arange(0, width, 2, dtype=torch.float32) / width
    waves = 2 * math.pi * rope["rope_theta"] ** exponents
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    context = rope["original_max_position_embeddings"]
    smooth = ((context / waves - low) / (high - low)).clamp(0, 1)
    return 1 / ((1 - smooth) / rope["factor"] + smooth)
