"""The model types that can be written as GGUF, and how each differs from Llama."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gguf import MODEL_ARCH

from modelforge.errors import Problem, RunError

# SmolLM3 in llama.cpp has no rotary embedding in every fourth layer.
_SMOLLM3_ROPE_STEP = 4
_GEMMA2_WINDOW_STEP, _GEMMA3_WINDOW_STEP = 2, 6
_GEMMA3_LOCAL_THETA = 10_000.0
# The layers of the 27B models, for which llama.cpp scales attention by width per head.
_GEMMA2_27B_LAYERS, _GEMMA3_27B_LAYERS = 46, 62


@dataclass(frozen=True)
class Architecture:
    """How one `model_type` of Transformers is written.

    `permutes_rope` is true where llama.cpp rotates neighbouring pairs, so that the rows of the
    query and key weights change their order. `norm_offset` is added to the weights of norms.
    `problem` returns what llama.cpp fixes in its code and this config has otherwise, or "".
    """

    arch: MODEL_ARCH
    permutes_rope: bool = False
    norm_offset: float = 0.0
    problem: Callable[[Any], str] = lambda _config: ""


def _smollm3_problem(config: Any) -> str:
    step = _SMOLLM3_ROPE_STEP
    expected = [int((layer + 1) % step != 0) for layer in range(config.num_hidden_layers)]
    if list(config.no_rope_layers) != expected:
        return f"rotary embeddings are not left out in each {step}th layer (no_rope_layers)"
    return "it has sliding attention" if getattr(config, "use_sliding_window", False) else ""


def _gemma_attention_problem(config: Any, large: int) -> str:
    heads, layers = config.num_attention_heads, config.num_hidden_layers
    expected = config.hidden_size / heads if layers == large else config.head_dim
    if config.query_pre_attn_scalar != expected:
        scalar = config.query_pre_attn_scalar
        return f"query_pre_attn_scalar is {scalar:g}; llama.cpp computes with {expected:g}"
    return ""


def _window_problem(config: Any, step: int) -> str:
    expected = [
        "full_attention" if (layer + 1) % step == 0 else "sliding_attention"
        for layer in range(config.num_hidden_layers)
    ]
    if list(config.layer_types) != expected:
        return f"full attention is not in each {step}th layer (layer_types)"
    return ""


def _gemma2_problem(config: Any) -> str:
    return _window_problem(config, _GEMMA2_WINDOW_STEP) or _gemma_attention_problem(
        config, _GEMMA2_27B_LAYERS
    )


def _gemma3_problem(config: Any) -> str:
    theta = config.rope_parameters["sliding_attention"]["rope_theta"]
    if theta != _GEMMA3_LOCAL_THETA:
        known = _GEMMA3_LOCAL_THETA
        return f"rope_theta of sliding attention is {theta:g}; llama.cpp has {known:g}"
    return _window_problem(config, _GEMMA3_WINDOW_STEP) or _gemma_attention_problem(
        config, _GEMMA3_27B_LAYERS
    )


def _qwen_problem(config: Any) -> str:
    return "it has sliding attention" if getattr(config, "use_sliding_window", False) else ""


ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture(MODEL_ARCH.LLAMA, permutes_rope=True),
    "mistral": Architecture(MODEL_ARCH.LLAMA, permutes_rope=True),
    "smollm3": Architecture(MODEL_ARCH.SMOLLM3, permutes_rope=True, problem=_smollm3_problem),
    "qwen2": Architecture(MODEL_ARCH.QWEN2, problem=_qwen_problem),
    "qwen3": Architecture(MODEL_ARCH.QWEN3, problem=_qwen_problem),
    "gemma2": Architecture(MODEL_ARCH.GEMMA2, norm_offset=1.0, problem=_gemma2_problem),
    "gemma3_text": Architecture(MODEL_ARCH.GEMMA3, norm_offset=1.0, problem=_gemma3_problem),
    "phi3": Architecture(MODEL_ARCH.PHI3),
    "granite": Architecture(MODEL_ARCH.GRANITE, permutes_rope=True),
}


def architecture_of(config: Any) -> Architecture:
    """Return how the model of this Transformers config is written.

    Raises:
        RunError: The model type has no entry, or llama.cpp computes it otherwise.
    """
    architecture = ARCHITECTURES.get(config.model_type)
    if architecture is None:
        raise RunError(
            Problem(
                "gguf",
                f"Models of the type {config.model_type} cannot be written as GGUF here. "
                f"Known: {', '.join(sorted(ARCHITECTURES))}.",
                "Name a folder of llama.cpp, whose own converter is used then, "
                "or export the merged model.",
            )
        )
    if problem := architecture.problem(config):
        raise RunError(
            Problem(
                "gguf",
                f"llama.cpp would compute this {config.model_type} model otherwise: {problem}.",
                "Export the merged model instead.",
            )
        )
    return architecture
