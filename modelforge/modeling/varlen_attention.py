"""Attention over rows that lie end to end in one sequence, without a mask and without a package.

`torch.nn.attention.varlen` runs PyTorch's own flash attention over documents of different lengths.
It is registered with Transformers under the name varlen. Batches with padding, and generation, use
sdpa with its mask.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.attention import varlen
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from modelforge.config.plan.weights import VARLEN

# Largest head of the flash attention kernels.
MAX_HEAD_DIM = 256


class _Documents:
    """Where documents begin, for the layers of one forward pass.

    Reading it from the GPU waits for it, so the result is kept for the next layer.

    Attributes:
        are_apart: Whether the mask that keeps documents apart was left out.
    """

    def __init__(self) -> None:
        self.are_apart = False
        self._positions: Any = None
        self._result: tuple[torch.Tensor, int] | None = None

    def bounds(self, positions: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Return the bounds of documents and the length of the longest.

        Args:
            positions: Position of each token in its document, (1, tokens) int64.

        Returns:
            (documents + 1,) int32 from 0 to the number of tokens, and a number of tokens.
        """
        if self._result is None or self._positions is not positions:
            self._positions, self._result = positions, document_bounds(positions[0])
        return self._result


def document_bounds(positions: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return the bounds of documents, as `_Documents.bounds`; `positions` is (tokens,) int64."""
    tokens = positions.numel()
    if positions.is_meta:  # a memory trace, in which the lengths make no difference
        return torch.empty(2, dtype=torch.int32, device="meta"), tokens
    begins = torch.ones_like(positions, dtype=torch.bool)
    begins[1:] = positions[1:] != positions[:-1] + 1
    starts = begins.nonzero().flatten().to(torch.int32)
    bounds = torch.cat([starts, starts.new_tensor([tokens])])
    return bounds, int(bounds.diff().max())


_documents = _Documents()


def varlen_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Return the output of attention, (batch, seq, heads, head_dim), and no weights.

    Args:
        module: The attention layer.
        query: (batch, heads, seq, head_dim)
        key: (batch, key heads, keys, head_dim)
        value: As `key`.
        attention_mask: (batch, 1, seq, keys), or None where no mask is needed.
        options: `position_ids`, (1, seq), say where documents begin; `scaling` and
            `sliding_window`, which counts the token itself, are those of Transformers.

    Raises:
        ValueError: Documents lie end to end, and the layer is not told where they begin.
    """
    positions = options.get("position_ids")
    is_sequence = attention_mask is None and len(query) == 1 and query.shape[2] == key.shape[2]
    if is_sequence and positions is not None:
        return _apart(module, query[0], key[0], value[0], options)[None], None
    if is_sequence and _documents.are_apart:
        raise ValueError(f"{type(module).__name__} is not told the positions of its tokens.")
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    return output, None


def _apart(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    options: dict[str, Any],
) -> torch.Tensor:
    """Return the output for documents that lie end to end, (seq, heads, head_dim)."""
    bounds, longest = _documents.bounds(options["position_ids"])
    output: torch.Tensor = varlen.varlen_attn(
        # Norms may have made the others 32-bit; sdpa casts them under autocast.
        *(part.transpose(0, 1).to(value.dtype) for part in (query, key, value)),
        bounds,
        bounds,
        longest,
        longest,
        scale=options.get("scaling"),
        window_size=_window(module, options),
        enable_gqa=len(query) != len(key),
    )
    return output


def _window(module: torch.nn.Module, options: dict[str, Any]) -> tuple[int, int]:
    """Return how many tokens before and after itself a token sees; -1 is all."""
    is_causal = options.get("is_causal")
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    window = options.get("sliding_window")
    before = -1 if window is None else window - 1
    return before, 0 if is_causal else before


def varlen_mask(
    batch_size: int, q_length: int, kv_length: int, **options: Any
) -> torch.Tensor | None:
    """Return no mask for rows that lie end to end, else that of sdpa."""
    # Transformers does not allow to leave out masks that keep rows apart, or that models change.
    is_changed = options.get("use_vmap", False)
    is_packed = not options.get("allow_is_causal_skip", True) and not is_changed
    is_plain = batch_size == 1 and q_length == kv_length and options["attention_mask"] is None
    _documents.are_apart = is_packed and is_plain
    if _documents.are_apart:
        return None
    return sdpa_mask(batch_size=batch_size, q_length=q_length, kv_length=kv_length, **options)


def use_varlen_attention(model: Any) -> str:
    """Let the model use this attention; return why it cannot, or an empty text."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None)
    head_dim = getattr(config, "head_dim", None)
    if head_dim is None and heads:
        head_dim = config.hidden_size // heads
    kinds = getattr(config, "layer_types", None) or ()
    if not (
        getattr(model, "_supports_flash_attn", False) and getattr(model, "_supports_sdpa", False)
    ):
        return f"{type(model).__name__} does not support flash attention."
    if getattr(config, "attention_dropout", 0.0):
        return "The model drops out attention weights, which it cannot."
    if any(kind not in ("full_attention", "sliding_attention") for kind in kinds):
        return "The model has layers with another kind of attention."
    if not head_dim or head_dim > MAX_HEAD_DIM:
        return f"Its heads have more than {MAX_HEAD_DIM} numbers."
    model.set_attn_implementation(VARLEN)
    return ""


AttentionInterface.register(VARLEN, varlen_attention)
AttentionMaskInterface.register(VARLEN, varlen_mask)
