"""What the meta device lacks, put in its place: fused attention and dropout, casts of autocast.

Attention keeps for its gradient what the fused kernels keep.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_FUSED = functional.scaled_dot_product_attention
# What autocast does in 16 bits, of what models call: its list is in torch's notes on amp.
_LOW = frozenset(
    {functional.linear, torch.matmul, torch.bmm, torch.baddbmm, torch.addmm, torch.mm, torch.einsum}
    | {torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.bmm, torch.Tensor.mm}
    | {functional.conv1d, _FUSED}
)


class MetaKernels(TorchFunctionMode):
    """Attention as the fused kernels do it, and the casts of autocast to `low`, where it is on.

    `card` says that dropout is done as CUDA does it.

    Autocast keeps the copies of weights that learn until the forward is over, as real autocast
    does; call `end_forward` then.
    """

    def __init__(self, low: torch.dtype | None, *, card: bool) -> None:
        super().__init__()
        self._low, self._card = low, card
        self._kept: dict[int, torch.Tensor] = {}

    def end_forward(self) -> None:
        """Let the copies of weights go."""
        self._kept.clear()

    def __torch_function__(self, call: Any, _types: Any, args: Any = (), named: Any = None) -> Any:
        """Do the call, or what stands in for it."""
        named = named or {}
        if self._low is not None and call in _LOW:
            args = tuple(self._cast(each) for each in args)
            named = {name: self._cast(each) for name, each in named.items()}
        if self._card and call is functional.dropout:
            return _drop(*args, **named)
        if call is _FUSED:
            return _attend(*args, **named)
        return call(*args, **named)

    def _cast(self, thing: Any) -> Any:
        if not isinstance(thing, torch.Tensor) or thing.dtype != torch.float32:
            return thing
        if not (thing.is_leaf and thing.requires_grad and torch.is_grad_enabled()):
            return thing.to(self._low)
        if id(thing) not in self._kept:
            self._kept[id(thing)] = thing.to(self._low)
        return self._kept[id(thing)]


def _drop(rows: torch.Tensor, p: float = 0.5, training: bool = True, **_named: Any) -> torch.Tensor:
    """Return what a card makes by one kernel, which keeps a byte a number and not four."""
    return torch.native_dropout(rows, p, training)[0] if p and training else rows


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    *_more: Any,
    **_named: Any,
) -> torch.Tensor:
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        # The kernels add a mask, so every call turns one of yes and no into numbers.
        attn_mask = torch.empty_like(attn_mask, dtype=query.dtype)
    attended: torch.Tensor = _Attention.apply(query, key, value, attn_mask)
    return attended


class _Attention(torch.autograd.Function):
    """What flash and memory-efficient attention keep: their inputs, the output, and a sum a row."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any) -> Any:
        rows, heads, length, _ = query.shape
        # Both lay the output out by tokens, so that no copy is made of it afterwards.
        made = query.new_empty(rows, length, heads, value.shape[-1]).transpose(1, 2)
        sums = query.new_empty(rows, heads, length, dtype=torch.float32)
        ctx.save_for_backward(query, key, value, made, sums, mask)
        return made

    @staticmethod
    def backward(ctx: Any, *_gradients: Any) -> Any:
        query, key, value, *_ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None
