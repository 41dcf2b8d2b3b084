"""Quantization configs of the frozen base weights, one per scheme.

Transformers falls back silently, for example to 16 bits on a GPU without fp8. Here that is an
error.
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
    FourOverSixConfig,
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
# Sides of the square blocks that share a scale, the usual one first.
FP8_BLOCKS = (128, 64, 32, 16)
# New layers, trained in full beside the adapter.
_NEW_LAYERS: dict[Head, tuple[str, ...]] = {
    "span": ("qa_outputs",),
    "reward": ("score", "classifier"),
}


@dataclass(frozen=True)
class ModelFacts:
    """Facts of a model that its quantization depends on.

    Attributes:
        skip_modules: Names of modules that are not quantized; None leaves it to Transformers.
        fp8_block: Side of the blocks that share an fp8 scale.
    """

    skip_modules: list[str] | None = None
    fp8_block: int = FP8_BLOCKS[0]


def quantization_config(
    plan: Plan, config: TrainingConfig, facts: ModelFacts = ModelFacts()
) -> Any:
    """Return the quantization config of Transformers, or None for unquantized weights.

    Raises:
        WorkerError: The package of the scheme is missing.
    """
    make = _SCHEMES.get(plan.quantization)
    if make is None:
        return None
    _require_package(plan, config)
    return make(plan, config, facts)


def model_facts(
    plan: Plan, config: TrainingConfig, head: Head, auto: Any, hub: dict[str, Any]
) -> ModelFacts:
    """Return the facts of the model that the plan points to, without loading its weights.

    `auto` is the Auto class of the head, `hub` the arguments of its `from_pretrained`.

    Raises:
        WorkerError: The settings leave no layer to quantize, or no fp8 block fits.
    """
    first, last = config.quantization.skip_first_layers, config.quantization.skip_last_layers
    scheme = plan.quantization
    if scheme == "none" or not (first or last or head in _NEW_LAYERS or scheme == "fp8"):
        return ModelFacts()
    model_config = AutoConfig.from_pretrained(plan.model_path, **hub)
    with torch.device("meta"):
        model = auto.from_config(model_config)
    blocks = block_names(model)
    if (first or last) and first + last >= len(blocks):
        raise WorkerError("nothing-quantized", _nothing_to_quantize(first, last, len(blocks)))
    names = blocks[:first] + (blocks[-last:] if last else [])
    usual = [*get_keys_to_not_convert(model), *_NEW_LAYERS.get(head, ()), "lm_head"]
    skipped = sorted({*names, *usual})
    size = config.quantization.fp8_block_size
    block = _fp8_block(model, skipped, size) if scheme == "fp8" else FP8_BLOCKS[0]
    return ModelFacts(skipped, block)


def require_fp8_gpu(plan: Plan, capability: tuple[int, int] | None) -> None:
    """Refuse fp8 on a GPU without it; `capability` is the CUDA compute capability."""
    if plan.quantization != "fp8":
        return
    if capability is None or capability < FP8_FROM:
        if capability is None:
            reason = "no CUDA GPU was found"
        else:
            reason = f"this GPU has {capability[0]}.{capability[1]}"
        raise WorkerError(
            "fp8-card",
            Problem(
                "quantization.scheme",
                f"fp8 needs a GPU of compute capability 8.9; {reason}.",
                "Choose the scheme fp8-weight-only, which saves the same memory.",
            ),
        )


def make_trainable(model: Any) -> Any:
    """Return the model with the changes that its scheme needs to train an adapter on it."""
    for module in model.modules():
        if type(module).__name__ == "FP8Linear":
            module.forward = _differentiable_forward(module)
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # bitsandbytes 0.50.2 repacks 4-bit layers at the first evaluation on CPUs with
            # avx512_bf16; they pass no gradient afterwards, and training goes wrong silently.
            module.support_avx512bf16_for_cpu = False
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None and not quantizer.is_trainable:
        # Transformers marks only some schemes as trainable. The others pass gradients too, because
        # they are dequantized before the multiplication.
        kind = type(quantizer)
        quantizer.__class__ = type(f"Trainable{kind.__name__}", (kind,), {"is_trainable": True})
    return model


def dequantize_fp8(weight: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return an fp8 weight of shape (out, in) in `dtype`.

    `scales` has one value per block: (ceil(out / block), ceil(in / block)).
    """
    rows, columns = weight.shape
    high, wide = -(-rows // scales.shape[0]), -(-columns // scales.shape[1])
    spread = scales.repeat_interleave(high, 0)[:rows].repeat_interleave(wide, 1)[:, :columns]
    return (weight.to(torch.float32) * spread.to(torch.float32)).to(dtype)


def _differentiable_forward(layer: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    # The fp8 kernel has no backward pass, so the weights are dequantized.
    def forward(inputs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            weight = dequantize_fp8(layer.weight, layer.weight_scale_inv, inputs.dtype)
        bias = layer.bias if layer.has_bias else None
        return nn.functional.linear(inputs, weight, bias)

    return forward


def block_names(model: Any) -> list[str]:
    """Return the names of the transformer blocks in order."""
    blocks: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{block}.") for block in blocks)
        if isinstance(module, nn.ModuleList) and not inside:
            blocks += [f"{name}.{number}" for number in range(len(module))]
    return blocks


def _fp8_block(model: Any, skipped: list[str], size: str) -> int:
    """Return the configured block, or the largest that divides the sides of every quantized layer.

    Transformers stores other layers without their scales.
    """
    sides = [
        side
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and should_convert_module(name, skipped)
        for side in layer.weight.shape
    ]
    blocks = FP8_BLOCKS if size == "auto" else (int(size),)
    fitting = [block for block in blocks if not any(side % block for side in sides)]
    if not fitting:
        problem = _no_fp8_block() if size == "auto" else _no_such_fp8_block(size)
        raise WorkerError("fp8-shape", problem)
    return fitting[0]


def _bitsandbytes(bits: int) -> Callable[[Plan, TrainingConfig, ModelFacts], BitsAndBytesConfig]:
    def make(plan: Plan, config: TrainingConfig, facts: ModelFacts) -> BitsAndBytesConfig:
        if bits == 8:
            return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=facts.skip_modules)
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=config.bnb_4bit_quant_type,
            bnb_4bit_compute_dtype=getattr(torch, plan.bnb_4bit_compute_dtype),
            bnb_4bit_use_double_quant=config.use_nested_quant,
            llm_int8_skip_modules=facts.skip_modules,
        )

    return make


def _fp8(_plan: Plan, _config: TrainingConfig, facts: ModelFacts) -> FineGrainedFP8Config:
    return FineGrainedFP8Config(
        weight_block_size=(facts.fp8_block, facts.fp8_block),
        modules_to_not_convert=facts.skip_modules,
    )


def _mxfp4(_plan: Plan, _config: TrainingConfig, _facts: ModelFacts) -> Mxfp4Config:
    # The mxfp4 kernels have no backward pass, so the model is dequantized for training.
    return Mxfp4Config(dequantize=True)


def _nvfp4(plan: Plan, config: TrainingConfig, facts: ModelFacts) -> Any:
    if not config.quantization.four_over_six:
        return _torchao(plan, config, facts)
    # Without the 16-bit weights its layers pass no gradients.
    return FourOverSixConfig(
        keep_master_weights=True, scale_rule="mse", modules_to_not_convert=facts.skip_modules
    )


def _torchao(plan: Plan, _config: TrainingConfig, facts: ModelFacts) -> TorchAoConfig:
    # torchao is optional, and slow to import.
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    if plan.quantization == "nvfp4":
        from torchao.prototype.mx_formats import NVFP4WeightOnlyConfig

        kind: Any = NVFP4WeightOnlyConfig()
    elif plan.quantization == "fp8-weight-only":
        kind = Float8WeightOnlyConfig(set_inductor_config=False)
    else:
        kind = Int8WeightOnlyConfig(set_inductor_config=False)
    return TorchAoConfig(kind, modules_to_not_convert=facts.skip_modules)


_SCHEMES: dict[str, Callable[[Plan, TrainingConfig, ModelFacts], Any]] = {
    "4-bit": _bitsandbytes(4),
    "8-bit": _bitsandbytes(8),
    "fp8": _fp8,
    "mxfp4": _mxfp4,
    **dict.fromkeys(TORCHAO_FORMATS, _torchao),
    "nvfp4": _nvfp4,
}


def _require_package(plan: Plan, config: TrainingConfig) -> None:
    if config.quantization.four_over_six:
        if importlib.util.find_spec("fouroversix") is None:
            raise WorkerError("package-missing", _no_four_over_six())
        return
    if plan.quantization in TORCHAO_FORMATS and importlib.util.find_spec("torchao") is None:
        raise WorkerError(
            "package-missing",
            Problem(
                "quantization.scheme",
                f"The scheme {plan.quantization} needs torchao, which is not installed.",
                "Run `python launch.py setup --with quantization`.",
            ),
        )


def _no_four_over_six() -> Problem:
    return Problem(
        "quantization.four_over_six",
        "Four over six needs the package fouroversix, which is not installed.",
        "Run `pip install fouroversix --no-build-isolation`, or set it to false.",
    )


def _nothing_to_quantize(first: int, last: int, blocks: int) -> Problem:
    return Problem(
        "quantization.skip_last_layers" if last else "quantization.skip_first_layers",
        f"The first {first} and last {last} layers are skipped, and the model has {blocks}.",
        f"Skip fewer than {blocks} layers in total.",
    )


def _no_such_fp8_block(size: str) -> Problem:
    return Problem(
        "quantization.fp8_block_size",
        f"Blocks of {size} by {size} weights do not divide every layer of this model.",
        "Choose auto, or a smaller block.",
    )


def _no_fp8_block() -> Problem:
    return Problem(
        "quantization.scheme",
        f"fp8 needs layers that divide into square blocks of {FP8_BLOCKS[-1]} weights or more; "
        "those of this model do not.",
        "Choose the scheme fp8-weight-only, which has one scale per row.",
    )
