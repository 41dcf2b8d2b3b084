"""Adapter initialization from the base weights: LoftQ, PiSSA and OLoRA.

PEFT's LoftQ needs a CUDA GPU and ignores the adapter's scale; its PiSSA refuses 4-bit weights.
All three are short computations, done here on the device of the weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from bitsandbytes import functional
from bitsandbytes.nn import Params4bit
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem
from modelforge.modeling.adapters.base_weights import BaseWeights
from modelforge.modeling.errors import WorkerError

# Weights of lora_A (rank, in) and lora_B (out, rank).
Factors = tuple[torch.Tensor, torch.Tensor]
# For larger matrices a full SVD takes minutes per layer, and only the leading part is needed.
_FULL_SVD_MAX = 1024


@dataclass
class AdapterInit:
    """An initialization by "loftq", "pissa" or "olora".

    `subtracted` has, by layer name, the factors that were subtracted from the base weights.
    """

    method: str
    plan: Plan
    config: TrainingConfig
    subtracted: dict[str, Factors] = field(default_factory=dict)

    def convert_saved_adapter(self, folder: Path) -> None:
        """Convert the adapter saved in `folder` to one for the original base weights.

        The subtracted factors are appended with opposite sign: twice the rank, scale one.
        """
        if not self.subtracted:
            return
        path = folder / "adapter_model.safetensors"
        tensors = load_file(path)
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        rank, alpha = config["r"], config["lora_alpha"]
        scale = alpha / (rank**0.5 if config["use_rslora"] else rank)
        for name, (lora_a, lora_b) in self.subtracted.items():
            key_a, key_b = (f"base_model.model.{name}.lora_{side}.weight" for side in "AB")
            tensors[key_a] = torch.cat([tensors[key_a].float(), lora_a])
            tensors[key_b] = torch.cat([scale * tensors[key_b].float(), -lora_b], dim=1)
        save_file(tensors, path, metadata={"format": "pt"})
        config |= {"r": 2 * rank, "lora_alpha": 2 * rank, "use_rslora": False}
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def initialize_adapter(model: Any, adapter_init: AdapterInit) -> None:
    """Initialize every adapted layer.

    Raises:
        WorkerError: The base weights are of an unsupported format, or cannot be read.
    """
    base_weights = BaseWeights(adapter_init.plan)
    with torch.no_grad():
        for name, layer in model.named_modules():
            if isinstance(layer, LoraLayer) and "default" in getattr(layer, "lora_A", {}):
                base_name = name.removeprefix("base_model.model.")
                _initialize_layer(base_name, layer, adapter_init, base_weights)


def _initialize_layer(
    name: str, layer: Any, adapter_init: AdapterInit, base_weights: BaseWeights
) -> None:
    base, scale, rank = layer.get_base_layer(), layer.scaling["default"], layer.r["default"]
    weight, method = base.weight, adapter_init.method
    is_4bit = isinstance(weight, Params4bit)
    if not is_4bit and not weight.is_floating_point():
        raise WorkerError("start-unsuited", _unsupported_weights(method, name))
    exact = base_weights.load(name).to(weight.device) if is_4bit else weight
    exact = _oriented(exact.float(), layer)
    if method == "loftq":
        stored = _dequantized(base) if is_4bit else _rounded(weight.data, adapter_init.config)
        kept = _oriented(stored, layer)
        lora_a, lora_b = _leading_factors(exact - kept, rank, scale)
        residual = None if is_4bit else kept
    else:
        factorize = _leading_factors if method == "pissa" else _orthonormal_factors
        lora_a, lora_b = factorize(exact, rank, scale)
        residual = exact - scale * lora_b @ lora_a
    layer.lora_A["default"].weight.data = lora_a.contiguous()
    layer.lora_B["default"].weight.data = lora_b.contiguous()
    if residual is not None:
        _replace_weight(base, _oriented(residual, layer))
        factors = lora_a.cpu().contiguous(), (scale * lora_b).cpu().contiguous()
        adapter_init.subtracted[name] = factors


def _leading_factors(matrix: torch.Tensor, rank: int, scale: float) -> Factors:
    """Return the factors whose product times `scale` is the best approximation of (out, in)."""
    if min(matrix.shape) <= _FULL_SVD_MAX:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    else:
        size = min(2 * rank + 8, *matrix.shape)
        left, values, right_t = torch.svd_lowrank(matrix, q=size, niter=4)
        right = right_t.T
    root = (values[:rank] / scale).sqrt()
    lora_a, lora_b = root[:, None] * right[:rank], left[:, :rank] * root
    return _padded(lora_a, rank, 0), _padded(lora_b, rank, 1)


def _orthonormal_factors(matrix: torch.Tensor, rank: int, scale: float) -> Factors:
    """Return OLoRA's factors of (out, in): the leading part of its QR decomposition."""
    q, r = torch.linalg.qr(matrix)
    return _padded(r[:rank] / scale, rank, 0), _padded(q[:, :rank], rank, 1)


def _padded(factor: torch.Tensor, rank: int, dim: int) -> torch.Tensor:
    """Return the factor padded with zeros to `rank` along `dim`."""
    missing = rank - factor.shape[dim]
    if missing <= 0:
        return factor
    shape = list(factor.shape)
    shape[dim] = missing
    return torch.cat([factor, factor.new_zeros(shape)], dim=dim)


def _oriented(matrix: torch.Tensor, layer: Any) -> torch.Tensor:
    # GPT-2's Conv1D layers store (in, out).
    return matrix.T if getattr(layer, "fan_in_fan_out", False) else matrix


def _dequantized(base: Any) -> torch.Tensor:
    return functional.dequantize_4bit(base.weight.data, base.weight.quant_state).float()


def _rounded(weight: torch.Tensor, config: TrainingConfig) -> torch.Tensor:
    """Return the weight as 4-bit quantization would store it."""
    packed, state = functional.quantize_4bit(
        weight.float().contiguous(),
        compress_statistics=config.use_nested_quant,
        quant_type=config.bnb_4bit_quant_type,
    )
    return functional.dequantize_4bit(packed, state).float()


def _replace_weight(base: Any, new: torch.Tensor) -> None:
    """Put a new weight into the layer, quantized as the old one."""
    weight = base.weight
    if not isinstance(weight, Params4bit):
        weight.data = new.to(weight.dtype).contiguous()
        return
    old = weight.quant_state
    packed, state = functional.quantize_4bit(
        new.to(old.dtype).contiguous(),
        blocksize=old.blocksize,
        compress_statistics=old.nested,
        quant_type=old.quant_type,
        quant_storage=weight.quant_storage,
    )
    weight.data, weight.quant_state = packed, state
    base.quant_state = state


def _unsupported_weights(method: str, name: str) -> Problem:
    return Problem(
        "adapter.init",
        f"{method} needs unquantized or 4-bit weights; those of {name} are neither.",
        "Choose the initialization default.",
    )
