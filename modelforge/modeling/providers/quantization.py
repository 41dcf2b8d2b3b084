"""How the frozen weights are stored while training: one way for each scheme, and never another.

Transformers falls back in silence: on a card too old for fp8 it loads 16 bits. Here that is
refused.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    BitsAndBytesConfig,
    FineGrainedFP8Config,
    Mxfp4Config,
    TorchAoConfig,
)
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizers_utils import should_convert_module

from modelforge.config.methods import Head
from modelforge.config.optimizers import TORCHAO_FORMATS
from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError

FP8_FROM = (8, 9)
# Sides of the squares that share a scale, the usual one first.
FP8_BLOCKS = (128, 64, 32, 16)
MXFP4_MODELS = ("gpt_oss",)
# New layers that learn in full beside the adapter.
_NEW: dict[Head, tuple[str, ...]] = {"span": ("qa_outputs",), "reward": ("score", "classifier")}


@dataclass(frozen=True)
class ModelFacts:
    """What of a model bears on how it is stored: layers left as they are, and the blocks of fp8.

    None leaves the layers to Transformers, which knows the usual ones.
    """

    skip_modules: list[str] | None = None
    fp8_block: int = FP8_BLOCKS[0]


def quantization_config(
    plan: Plan, config: TrainingConfig, around: ModelFacts = ModelFacts()
) -> Any:
    """Return how the frozen weights are stored, or None for plain ones.

    Raises WorkError where the scheme's package is missing.
    """
    make = _SCHEMES.get(plan.quantization)
    if make is None:
        return None
    _require_package(plan)
    return make(plan, config, around)


def model_facts(
    plan: Plan, config: TrainingConfig, head: Head, auto: Any, place: dict[str, Any]
) -> ModelFacts:
    """Return what of the model bears on how it is stored, from its shape alone."""
    first, last = config.quantization.skip_first_layers, config.quantization.skip_last_layers
    stored = plan.quantization
    if stored == "none" or not (first or last or head in _NEW or stored == "fp8"):
        return ModelFacts()
    shape = AutoConfig.from_pretrained(plan.model_path, **place)
    with torch.device("meta"):
        bare = auto.from_config(shape)
    blocks = _blocks(bare)
    if (first or last) and first + last >= len(blocks):
        raise WorkerError("nothing-quantized", _nothing_left(first, last, len(blocks)))
    names = blocks[:first] + (blocks[-last:] if last else [])
    usual = [*get_keys_to_not_convert(bare), *_NEW.get(head, ()), "lm_head"]
    left_out = sorted({*names, *usual})
    return ModelFacts(left_out, _fitting(bare, left_out) if stored == "fp8" else FP8_BLOCKS[0])


def require_fp8_gpu(plan: Plan, capability: tuple[int, int] | None) -> None:
    """Refuse what Transformers would load otherwise than asked. `capability` is the card's."""
    if plan.quantization != "fp8":
        return
    if capability is None or capability < FP8_FROM:
        has = "no CUDA card" if capability is None else f"{capability[0]}.{capability[1]}"
        raise WorkerError(
            "fp8-card",
            Problem(
                "quantization.scheme",
                f"fp8 needs a card of compute capability 8.9; here is {has}.",
                "Choose the scheme fp8-weight-only, which saves the same memory.",
            ),
        )


def make_trainable(model: Any) -> Any:
    """Return the model with what its scheme lacks to learn an adapter on top of it."""
    for module in model.modules():
        if type(module).__name__ == "FP8Linear":
            module.forward = _through(module)
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # bitsandbytes 0.50.2 repacks 4-bit layers at the first evaluation on CPUs with
            # avx512_bf16; no gradient passes them then, and updates go wrong without a word.
            module.support_avx512bf16_for_cpu = False
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None and not quantizer.is_trainable:
        # Transformers knows only some schemes to be trainable. The gradient passes these too: to
        # multiply with them they are unpacked.
        kind = type(quantizer)
        quantizer.__class__ = type(f"Trainable{kind.__name__}", (kind,), {"is_trainable": True})
    return model


def dequantize_fp8(weight: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a weight in fp8 with one scale a block as a plain one."""
    rows, columns = weight.shape
    high, wide = -(-rows // scales.shape[0]), -(-columns // scales.shape[1])
    spread = scales.repeat_interleave(high, 0)[:rows].repeat_interleave(wide, 1)[:, :columns]
    return (weight.to(torch.float32) * spread.to(torch.float32)).to(dtype)


def _through(layer: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    # The kernel for these layers has no way back for the gradient, so they are unpacked.
    def forward(rows: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            plain = dequantize_fp8(layer.weight, layer.weight_scale_inv, rows.dtype)
        bias = layer.bias if layer.has_bias else None
        return nn.functional.linear(rows, plain, bias)

    return forward


def _blocks(model: Any) -> list[str]:
    """Return the names of the model's blocks, from the first to the last."""
    found: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{block}.") for block in found)
        if isinstance(module, nn.ModuleList) and not inside:
            found += [f"{name}.{number}" for number in range(len(module))]
    return found


def _fitting(bare: Any, left_out: list[str]) -> int:
    """Return the largest block that divides every layer to be stored.

    Of a layer that it does not divide Transformers stores the numbers without their scales.
    """
    sides = [
        side
        for name, layer in bare.named_modules()
        if isinstance(layer, nn.Linear) and should_convert_module(name, left_out)
        for side in layer.weight.shape
    ]
    fitting = [block for block in FP8_BLOCKS if not any(side % block for side in sides)]
    if not fitting:
        raise WorkerError("fp8-shape", _no_block())
    return fitting[0]


def _by_bits(bits: int) -> Callable[[Plan, TrainingConfig, ModelFacts], BitsAndBytesConfig]:
    def make(plan: Plan, config: TrainingConfig, around: ModelFacts) -> BitsAndBytesConfig:
        if bits == 8:
            return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=around.skip_modules)
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=config.bnb_4bit_quant_type,
            bnb_4bit_compute_dtype=getattr(torch, plan.bnb_4bit_compute_dtype),
            bnb_4bit_use_double_quant=config.use_nested_quant,
            llm_int8_skip_modules=around.skip_modules,
        )

    return make


def _fp8(_plan: Plan, _config: TrainingConfig, around: ModelFacts) -> FineGrainedFP8Config:
    return FineGrainedFP8Config(
        weight_block_size=(around.fp8_block, around.fp8_block),
        modules_to_not_convert=around.skip_modules,
    )


def _mxfp4(_plan: Plan, _config: TrainingConfig, _around: ModelFacts) -> Mxfp4Config:
    # Its kernels have no way back for the gradient: such a model is unpacked to be trained.
    return Mxfp4Config(dequantize=True)


def _by_torchao(plan: Plan, _config: TrainingConfig, around: ModelFacts) -> TorchAoConfig:
    # Imported here: torchao is not always installed, and takes its time.
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    if plan.quantization == "nvfp4":
        from torchao.prototype.mx_formats import NVFP4WeightOnlyConfig

        kind: Any = NVFP4WeightOnlyConfig()
    elif plan.quantization == "fp8-weight-only":
        kind = Float8WeightOnlyConfig(set_inductor_config=False)
    else:
        kind = Int8WeightOnlyConfig(set_inductor_config=False)
    return TorchAoConfig(kind, modules_to_not_convert=around.skip_modules)


_SCHEMES: dict[str, Callable[[Plan, TrainingConfig, ModelFacts], Any]] = {
    "4-bit": _by_bits(4),
    "8-bit": _by_bits(8),
    "fp8": _fp8,
    "mxfp4": _mxfp4,
    **dict.fromkeys(TORCHAO_FORMATS, _by_torchao),
}


def _require_package(plan: Plan) -> None:
    if plan.quantization in TORCHAO_FORMATS and importlib.util.find_spec("torchao") is None:
        raise WorkerError(
            "package-missing",
            Problem(
                "quantization.scheme",
                f"The scheme {plan.quantization} needs torchao, which is not installed.",
                "Run `python launch.py setup --with quantization`.",
            ),
        )


def _nothing_left(first: int, last: int, blocks: int) -> Problem:
    return Problem(
        "quantization.skip_last_layers" if last else "quantization.skip_first_layers",
        f"The first {first} and the last {last} layers are left out, and the model has {blocks}.",
        f"Leave out fewer than {blocks} layers together.",
    )


def _no_block() -> Problem:
    return Problem(
        "quantization.scheme",
        f"fp8 stores squares of {FP8_BLOCKS[-1]} weights or more, which the layers of this model "
        "cannot be cut into.",
        "Choose the scheme fp8-weight-only, which has a scale for every row.",
    )
