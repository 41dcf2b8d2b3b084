"""Quantized linear layers on the meta device: their stored bytes and what they dequantize."""

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

# bitsandbytes in 4 bits: weights per scale, and scales per scale of scales.
_BLOCK, _NESTED_BLOCK = 64, 256


class _DequantizedMatmul(torch.autograd.Function):
    """A product with a weight of shape (out, in) that is dequantized in forward and backward.

    As MatMul4Bit and MatMul8bitFp of bitsandbytes. The input is kept only with `keeps_input`.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Any, shape: tuple[int, int], keeps_input: bool) -> Any:
        ctx.shape, ctx.inputs = shape, inputs if keeps_input else None
        _weight = inputs.new_empty(shape)
        return inputs.new_empty(*inputs.shape[:-1], shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        _weight = gradients[0].new_empty(ctx.shape)
        return gradients[0].new_empty(*gradients[0].shape[:-1], ctx.shape[1]), None, None


class _FourBitLinear(bnb.nn.Linear4bit):
    """A 4-bit layer of bitsandbytes; PEFT recognizes it by its class."""

    def __init__(self, plain: nn.Linear, compute: torch.dtype, *, nested: bool) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.compute_dtype, self.compute_type_is_set = compute, True
        packed = torch.empty((plain.weight.numel() + 1) // 2, 1, dtype=torch.uint8, device="meta")
        self.weight = bnb.nn.Params4bit(packed, requires_grad=False, compress_statistics=nested)
        self.bias = plain.bias
        scales = -(-plain.weight.numel() // _BLOCK)
        dtype = torch.uint8 if nested else torch.float32
        self.scales = nn.Buffer(torch.empty(scales, dtype=dtype, device="meta"))
        nested_scales = -(-scales // _NESTED_BLOCK) if nested else 0
        self.nested_scales = nn.Buffer(torch.empty(nested_scales, device="meta"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = self.out_features, self.in_features
        output: torch.Tensor = _DequantizedMatmul.apply(x.to(self.compute_dtype), shape, False)
        return (output if self.bias is None else output + self.bias).to(x.dtype)


class _EightBitLinear(bnb.nn.Linear8bitLt):
    """An 8-bit layer of bitsandbytes. Its product keeps the input, although it is not needed."""

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
        shape = self.out_features, self.in_features
        output: torch.Tensor = _DequantizedMatmul.apply(x, shape, True)
        return output if self.bias is None else output + self.bias


class _PackedLinear(nn.Linear):
    """A layer of another format with `bytes_per_weight`.

    fp8 is dequantized before the product, so autograd keeps the full weight for the backward pass.
    """

    def __init__(self, plain: nn.Linear, bytes_per_weight: float, *, keeps_weight: bool) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = plain.in_features, plain.out_features
        size = int(prod(plain.weight.shape) * bytes_per_weight)
        packed = torch.empty(size, dtype=torch.uint8, device="meta")
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias, self._keeps_weight = plain.bias, keeps_weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = self.out_features, self.in_features
        if self._keeps_weight:
            return functional.linear(x, x.new_empty(shape), self.bias)
        output: torch.Tensor = _DequantizedMatmul.apply(x, shape, False)
        return output if self.bias is None else output + self.bias


class _Float8Matmul(torch.autograd.Function):
    """A product as torchao's: 8-bit copies are made for it, and what is saved is not 8-bit."""

    @staticmethod
    def forward(ctx: Any, inputs: Any, weight: Any) -> Any:
        ctx.save_for_backward(inputs, weight)
        _copies = _eight_bit(inputs), _eight_bit(weight)
        return inputs.new_empty(*inputs.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        inputs, weight = ctx.saved_tensors
        _copies = _eight_bit(gradients[0]), _eight_bit(weight), _eight_bit(inputs)
        # The gradient of a frozen weight is computed too, and dropped.
        return torch.empty_like(inputs), gradients[0].new_empty(weight.shape)


def _eight_bit(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(tensor, dtype=torch.float8_e4m3fn)


class _Float8Linear(nn.Linear):
    """A layer that multiplies in FP8; autocast casts its inputs, not its weights."""

    def __init__(self, plain: nn.Linear, low: torch.dtype | None) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.weight, self.bias, self._low = plain.weight, plain.bias, low

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x if self._low is None else x.to(self._low)
        output: torch.Tensor = _Float8Matmul.apply(x, self.weight)
        return output if self.bias is None else output + self.bias.to(output.dtype)


def use_float8_layers(model: Any, names: list[str], low: torch.dtype | None) -> None:
    """Replace these linear layers by layers that multiply in FP8; `low` is that of autocast."""
    for name in names:
        model.set_submodule(name, _Float8Linear(model.get_submodule(name), low))


def quantize_layers(
    model: Any, scheme: str, *, excluded: list[str] | None, compute: torch.dtype, nested: bool
) -> None:
    """Replace the linear layers that `scheme` quantizes; `excluded` names layers that stay."""
    skipped = [*get_keys_to_not_convert(model), "lm_head"] if excluded is None else excluded
    for name, layer in list(model.named_modules()):
        if type(layer) is not nn.Linear or not should_convert_module(name, skipped):
            continue
        if scheme == "4-bit":
            quantized: nn.Module = _FourBitLinear(layer, compute, nested=nested)
        elif scheme == "8-bit":
            quantized = _EightBitLinear(layer)
        else:
            size = BYTES_PER_WEIGHT[scheme]
            quantized = _PackedLinear(layer, size, keeps_weight=scheme == "fp8")
        model.set_submodule(name, quantized.requires_grad_(False))
    model.is_loaded_in_4bit, model.is_loaded_in_8bit = scheme == "4-bit", scheme == "8-bit"
