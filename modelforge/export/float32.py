"""Compute in float32 with weights that stay in the precision of their files."""

from __future__ import annotations

from typing import Any

import torch


def compute_in_float32(model: Any) -> None:
    """Widen the weights of each layer to float32 while it computes.

    Memory grows by the largest layer in float32. Results are those of the model in float32, since
    every 16-bit number is a float32 number. A second call changes nothing.
    """
    for module in model.modules():
        if "stored_weights" in module.__dict__:  # called before
            continue
        own = list(module.parameters(recurse=False))
        if any(weight.is_floating_point() and weight.dtype != torch.float32 for weight in own):
            module.stored_weights = []
            module.register_forward_pre_hook(_widen)
            module.register_forward_hook(_restore, always_call=True)


def _widen(module: torch.nn.Module, _arguments: object) -> None:
    for weight in module.parameters(recurse=False):
        module.stored_weights.append((weight, weight.data))
        weight.data = weight.data.float()


def _restore(module: torch.nn.Module, _arguments: object, _output: object) -> None:
    for weight, data in module.stored_weights:
        weight.data = data
    module.stored_weights.clear()
