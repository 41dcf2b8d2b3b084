"""Adapters that begin near the goal, from the weights themselves: LoftQ, PiSSA and OLoRA.

PEFT's own way for the first needs a CUDA card and leaves out the adapter's scale; for the second
it refuses 4-bit weights. All three are small sums, done here on whatever device the weights are.
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

Pair = tuple[torch.Tensor, torch.Tensor]
# Beyond this the whole decomposition takes minutes a layer; the leading part is all that counts.
_WHOLE = 1024


@dataclass
class AdapterInit:
    """How an adapter begins: with one of the near starts.

    `taken` is what the adapter began with where that was taken out of the weights, by layer.
    """

    method: str
    plan: Plan
    config: TrainingConfig
    subtracted: dict[str, Pair] = field(default_factory=dict)

    def convert_saved_adapter(self, folder: Path) -> None:
        """Make the adapter saved in `folder` one for the unchanged weights.

        What it began with was taken out of them, so the saved one has that on its other side:
        twice the rank, and a scale of one.
        """
        if not self.subtracted:
            return
        path = folder / "adapter_model.safetensors"
        tensors = load_file(path)
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        rank, alpha = config["r"], config["lora_alpha"]
        scale = alpha / (rank**0.5 if config["use_rslora"] else rank)
        for name, (down, up) in self.subtracted.items():
            ends = [f"base_model.model.{name}.lora_{side}.weight" for side in "AB"]
            now_down, now_up = (tensors[end].float() for end in ends)
            tensors[ends[0]] = torch.cat([now_down, down])
            tensors[ends[1]] = torch.cat([scale * now_up, -up], dim=1)
        save_file(tensors, path, metadata={"format": "pt"})
        config |= {"r": 2 * rank, "lora_alpha": 2 * rank, "use_rslora": False}
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def initialize_adapter(model: Any, start: AdapterInit) -> None:
    """Give every adapted layer its start. Raises WorkError where the weights cannot be read."""
    originals = BaseWeights(start.plan)
    with torch.no_grad():
        for name, layer in model.named_modules():
            if isinstance(layer, LoraLayer) and "default" in getattr(layer, "lora_A", {}):
                _begin_layer(name.removeprefix("base_model.model."), layer, start, originals)


def _begin_layer(name: str, layer: Any, start: AdapterInit, originals: BaseWeights) -> None:
    base, scale = layer.get_base_layer(), layer.scaling["default"]
    stored = isinstance(base.weight, Params4bit)
    if not stored and not base.weight.is_floating_point():
        raise WorkerError("start-unsuited", _unsuited(start.method, name))
    held = base.weight
    exact = originals.load(name).to(held.device) if stored else held
    exact = _turned(exact.float(), layer)
    if start.method == "loftq":
        kept = _turned(_unpacked(base) if stored else _rounded(held.data, start.config), layer)
        up, down = _leading(exact - kept, layer.r["default"], scale)
        left = None if stored else kept
    else:
        solve = _leading if start.method == "pissa" else _first_directions
        up, down = solve(exact, layer.r["default"], scale)
        left = exact - scale * up @ down
    layer.lora_A["default"].weight.data = down.contiguous()
    layer.lora_B["default"].weight.data = up.contiguous()
    if left is not None:
        _put(base, _turned(left, layer))
        start.subtracted[name] = (down.cpu().contiguous(), (scale * up).cpu().contiguous())


def _leading(matrix: torch.Tensor, rank: int, scale: float) -> Pair:
    """Return the two factors whose product times `scale` is nearest to the matrix."""
    if min(matrix.shape) <= _WHOLE:
        left, sizes, right = torch.linalg.svd(matrix, full_matrices=False)
    else:
        left, sizes, turned = torch.svd_lowrank(matrix, q=min(2 * rank + 8, *matrix.shape), niter=4)
        right = turned.T
    root = (sizes[:rank] / scale).sqrt()
    up, down = left[:, :rank] * root, root[:, None] * right[:rank]
    return _filled(up, rank, 1), _filled(down, rank, 0)


def _first_directions(matrix: torch.Tensor, rank: int, scale: float) -> Pair:
    """Return OLoRA's start: an orthonormal base of the columns, and what it takes of each row."""
    basis, rest = torch.linalg.qr(matrix)
    up, down = basis[:, :rank], rest[:rank] / scale
    return _filled(up, rank, 1), _filled(down, rank, 0)


def _filled(part: torch.Tensor, rank: int, axis: int) -> torch.Tensor:
    """Return the factor with nothing where the matrix has fewer directions than the rank."""
    missing = rank - part.shape[axis]
    if missing <= 0:
        return part
    shape = list(part.shape)
    shape[axis] = missing
    return torch.cat([part, part.new_zeros(shape)], dim=axis)


def _turned(matrix: torch.Tensor, layer: Any) -> torch.Tensor:
    # GPT-2's layers keep inputs first.
    return matrix.T if getattr(layer, "fan_in_fan_out", False) else matrix


def _unpacked(base: Any) -> torch.Tensor:
    return functional.dequantize_4bit(base.weight.data, base.weight.quant_state).float()


def _rounded(weight: torch.Tensor, config: TrainingConfig) -> torch.Tensor:
    """Return the weight as it will be read back from 4 bits."""
    packed, state = functional.quantize_4bit(
        weight.float().contiguous(),
        compress_statistics=config.use_nested_quant,
        quant_type=config.bnb_4bit_quant_type,
    )
    return functional.dequantize_4bit(packed, state).float()


def _put(base: Any, weight: torch.Tensor) -> None:
    held = base.weight
    if not isinstance(held, Params4bit):
        held.data = weight.to(held.dtype).contiguous()
        return
    old = held.quant_state
    packed, state = functional.quantize_4bit(
        weight.to(old.dtype).contiguous(),
        blocksize=old.blocksize,
        compress_statistics=old.nested,
        quant_type=old.quant_type,
        quant_storage=held.quant_storage,
    )
    held.data, held.quant_state = packed, state
    base.quant_state = state


def _unsuited(kind: str, name: str) -> Problem:
    return Problem(
        "adapter.init",
        f"{kind} begins from plain or 4-bit weights; those of {name} are neither.",
        "Choose the start default.",
    )
