"""Offloaded activations on the meta device: a tensor that waits on the host takes no GPU memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import modeling_utils

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.train.trainer.private import storage_id

# Smaller tensors stay on the GPU (`min_offload_size` of TRL's `OffloadActivations`), in bytes.
_LEAST = 1024


class _OnHost(saved_tensors_hooks):
    """Drops the tensors that autograd saves, and makes others of their shape when needed."""

    def __init__(self, stays: Callable[[torch.Tensor], bool] = lambda _: False) -> None:
        super().__init__(lambda tensor: tensor if stays(tensor) else _empty_like(tensor), _loaded)


def _empty_like(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
    shape, stride, dtype = tensor.shape, tensor.stride(), tensor.dtype
    return lambda: torch.empty_strided(shape, stride, dtype=dtype, device="meta")


def _loaded(saved: Any) -> torch.Tensor:
    return saved if isinstance(saved, torch.Tensor) else saved()


@contextmanager
def offloading(config: TrainingConfig, plan: Plan, model: Any) -> Iterator[None]:
    """Offload in a forward pass inside what the run offloads.

    With gradient checkpointing these are the inputs of recomputed layers, which Transformers
    offloads, else all activations, which TRL offloads.
    """
    if not plan.activation_offload:
        yield
        return
    weights = {storage_id(tensor) for tensor in (*model.parameters(), *model.buffers())}

    def stays(tensor: torch.Tensor) -> bool:
        return storage_id(tensor) in weights or tensor.numel() * tensor.element_size() < _LEAST

    original = modeling_utils.save_on_cpu
    modeling_utils.save_on_cpu = lambda **_: _OnHost()
    try:
        with nullcontext() if config.gradient_checkpointing else _OnHost(stays):
            yield
    finally:
        modeling_utils.save_on_cpu = original
