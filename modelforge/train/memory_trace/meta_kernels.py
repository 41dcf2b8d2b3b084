"""Replacements for what differs on the meta device: fused attention, dropout and autocast.

They keep the same tensors for the backward pass as the fused CUDA and CPU kernels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_ATTENTION = functional.scaled_dot_product_attention
# Functions that autocast runs in 16 bits, of those that models call; see PyTorch's AMP notes.
_LOW_PRECISION = frozenset(
    {functional.linear, torch.matmul, torch.bmm, torch.baddbmm, torch.addmm, torch.mm, torch.einsum}
    | {torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.bmm, torch.Tensor.mm}
    | {functional.conv1d, _ATTENTION}
)


class MetaKernels(TorchFunctionMode):
    """Fused attention, and the casts of autocast to `low` where it is on.

    Autocast caches the casts of trainable weights until the forward pass has ended; call
    `end_forward` then. With `cuda`, dropout keeps what the CUDA kernel keeps.
    """

    def __init__(self, low: torch.dtype | None, *, cuda: bool) -> None:
        super().__init__()
        self._low, self._cuda = low, cuda
        self._casts: dict[int, torch.Tensor] = {}

    def end_forward(self) -> None:
        """Drop the cached casts of weights."""
        self._casts.clear()

    def __torch_function__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call the function, or its replacement."""
        kwargs = kwargs or {}
        if self._low is not None and function in _LOW_PRECISION:
            args = tuple(self._cast(value) for value in args)
            kwargs = {name: self._cast(value) for name, value in kwargs.items()}
        if self._cuda and function is functional.dropout:
            return _dropout(*args, **kwargs)
        if function is _ATTENTION:
            return _attention(*args, **kwargs)
        return function(*args, **kwargs)

    def _cast(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
            return value
        if not (value.is_leaf and value.requires_grad and torch.is_grad_enabled()):
            return value.to(self._low)
        if id(value) not in self._casts:
            self._casts[id(value)] = value.to(self._low)
        return self._casts[id(value)]


def _dropout(
    values: torch.Tensor, p: float = 0.5, training: bool = True, **_kwargs: Any
) -> torch.Tensor:
    """Return what the fused CUDA kernel returns; its mask has one byte per element, not four."""
    return torch.native_dropout(values, p, training)[0] if p and training else values


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    *_args: Any,
    **_kwargs: Any,
) -> torch.Tensor:
    """Return the output of fused attention: (batch, heads, seq, head_dim)."""
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        # The kernels add the mask, so every call converts a boolean one to numbers.
        attn_mask = torch.empty_like(attn_mask, dtype=query.dtype)
    return _FusedAttention.apply(query, key, value, attn_mask)


class _FusedAttention(torch.autograd.Function):
    """Flash and memory-efficient attention keep inputs, output and a log-sum-exp per row."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any) -> Any:
        batch, heads, length, _ = query.shape
        # Both store the output by tokens, so that the transpose that follows makes no copy.
        output = query.new_empty(batch, length, heads, value.shape[-1]).transpose(1, 2)
        logsumexp = query.new_empty(batch, heads, length, dtype=torch.float32)
        ctx.save_for_backward(query, key, value, output, logsumexp, mask)
        return output

    @staticmethod
    def backward(ctx: Any, *_gradients: Any) -> Any:
        query, key, value, *_ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None
