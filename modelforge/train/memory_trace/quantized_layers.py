"""Frozen layers as a scheme stores them, on the meta device: their bytes, and what they unpack."""

from __future__ import annotations

from math import prod
from typing import Any

import bitsandbytes as bnb
import torch
from torch import nn
from torch.nn import functional
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizers_utils import should_convert_module

from modelforge.config.optimizers import BYTES_PER_WEIGHT

# As bitsandbytes stores 4 bits: a scale for so many weights, and a scale of scales for so many.
_BLOCK, _BLOCKS = 64, 256


class _Product(torch.autograd.Function):
    """A product with a weight that is unpacked for it, forward and back.

    As bitsandbytes' MatMul4Bit and MatMul8bitFp: the input is kept only where `keeps` says so.
    """

    @staticmethod
    def forward(ctx: Any, rows: Any, shape: tuple[int, int], keeps: bool) -> Any:
        ctx.shape, ctx.rows = shape, rows if keeps else None
        _plain = rows.new_empty(shape)
        return rows.new_empty(*rows.shape[:-1], shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        _plain = gradients[0].new_empty(ctx.shape)
        return gradients[0].new_empty(*gradients[0].shape[:-1], ctx.shape[1]), None, None


class _FourBit(bnb.nn.Linear4bit):
    """A layer of bitsandbytes in 4 bits, which PEFT knows by its class."""

    def __init__(self, plain: nn.Linear, compute: torch.dtype, *, nested: bool) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.compute_dtype, self.compute_type_is_set = compute, True
        packed = torch.empty((plain.weight.numel() + 1) // 2, 1, dtype=torch.uint8, device="meta")
        self.weight = bnb.nn.Params4bit(packed, requires_grad=False, compress_statistics=nested)
        self.bias = plain.bias
        scales = -(-plain.weight.numel() // _BLOCK)
        kind = torch.uint8 if nested else torch.float32
        self.scales = nn.Buffer(torch.empty(scales, dtype=kind, device="meta"))
        of_scales = -(-scales // _BLOCKS) if nested else 0
        self.scales_of_scales = nn.Buffer(torch.empty(of_scales, device="meta"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = self.out_features, self.in_features
        made: torch.Tensor = _Product.apply(x.to(self.compute_dtype), shape, False)
        return (made if self.bias is None else made + self.bias).to(x.dtype)


class _EightBit(bnb.nn.Linear8bitLt):
    """A layer of bitsandbytes in 8 bits. Its product keeps the input, though nothing needs it."""

    def __init__(self, plain: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.state, self.index = bnb.MatmulLtState(), None
        self.state.has_fp16_weights, self.state.threshold = False, 6.0
        packed = torch.empty(tuple(plain.weight.shape), dtype=torch.int8, device="meta")
        self.weight = bnb.nn.Int8Params(packed, requires_grad=False, has_fp16_weights=False)
        self.bias = plain.bias
        self.scales = nn.Buffer(torch.empty(plain.out_features, device="meta"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = _Product.apply(x, (self.out_features, self.in_features), True)
        return made if self.bias is None else made + self.bias


class _Bytes(nn.Linear):
    """A layer of another scheme: so many bytes a weight.

    fp8 is unpacked before the product, so that autograd keeps the plain weight for its gradient.
    """

    def __init__(self, plain: nn.Linear, each: float, *, keeps_plain: bool) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = plain.in_features, plain.out_features
        size = int(prod(plain.weight.shape) * each)
        packed = torch.empty(size, dtype=torch.uint8, device="meta")
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias, self._keeps_plain = plain.bias, keeps_plain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = self.out_features, self.in_features
        if self._keeps_plain:
            return functional.linear(x, x.new_empty(shape), self.bias)
        made: torch.Tensor = _Product.apply(x, shape, False)
        return made if self.bias is None else made + self.bias


def pack(
    model: Any, scheme: str, *, left_out: list[str] | None, compute: torch.dtype, nested: bool
) -> None:
    """Put packed layers in the place of those that the scheme stores; `left_out` names the rest."""
    usual = [*get_keys_to_not_convert(model), "lm_head"] if left_out is None else left_out
    for name, layer in list(model.named_modules()):
        if type(layer) is not nn.Linear or not should_convert_module(name, usual):
            continue
        if scheme == "4-bit":
            made: nn.Module = _FourBit(layer, compute, nested=nested)
        elif scheme == "8-bit":
            made = _EightBit(layer)
        else:
            made = _Bytes(layer, BYTES_PER_WEIGHT[scheme], keeps_plain=scheme == "fp8")
        model.set_submodule(name, made.requires_grad_(False))
    model.is_loaded_in_4bit, model.is_loaded_in_8bit = scheme == "4-bit", scheme == "8-bit"
