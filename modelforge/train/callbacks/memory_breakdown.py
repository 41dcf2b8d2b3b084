"""Measure how much memory each part of the training takes at its peak."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerState

from modelforge.runs.progress.measured_events import MemoryBreakdownEvent
from modelforge.train.callbacks.system_stats import peak_gib, reset_peak
from modelforge.train.event_log import EventLog
from modelforge.units import GIB

INTERVAL_S = 10.0


def measure_memory(trainer: Any, log: EventLog, device: str, stage: int | None) -> None:
    """Measure the memory of the training from now on."""
    trainer.add_callback(MemoryBreakdown(trainer, log, device, stage))


class MemoryBreakdown(TrainerCallback):
    """Adds up weights, gradients and optimizer state; what remains of the peak are activations.

    On the CPU the peak is that of the process, and its memory before the training is the overhead.
    """

    def __init__(self, trainer: Any, log: EventLog, device: str, stage: int | None) -> None:
        self._trainer, self._log, self._stage = trainer, log, stage
        self._device = device
        self._gradients = self._optimizer = self._program = 0.0
        self._written = 0.0

    def on_train_begin(self, *_args: Any, **_kwargs: Any) -> None:
        """Forget the peak of loading, and note what the process has taken before the training."""
        if self._device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            return
        reset_peak()
        resident = psutil.Process().memory_info().rss
        self._program = max(0, resident - storage_bytes(self._weights())) / GIB

    def on_pre_optimizer_step(self, *_args: Any, **_kwargs: Any) -> None:
        """Measure the gradients, which are complete now."""
        gradients = [weight.grad for weight in self._model.parameters() if weight.grad is not None]
        self._gradients = max(self._gradients, storage_bytes(gradients) / GIB)

    def on_optimizer_step(self, *_args: Any, **_kwargs: Any) -> None:
        """Measure the state of the optimizer, which exists from its first step on."""
        state = _tensors(dict(self._trainer.optimizer.state))
        self._optimizer = max(self._optimizer, storage_bytes(state) / GIB)

    def on_log(self, _args: Any, state: TrainerState, *_rest: Any, **_kwargs: Any) -> None:
        """Write the parts, at most every ten seconds."""
        if state.global_step and time.monotonic() - self._written >= INTERVAL_S:
            self._write(state.global_step)

    def on_train_end(self, _args: Any, state: TrainerState, *_rest: Any, **_kwargs: Any) -> None:
        """Write the parts at the end of the training."""
        parts = self._write(state.global_step)
        sizes = (f"{name} {value:.2f}" for name, value in parts.items())
        self._log.line(f"Memory by part in GiB: {', '.join(sizes)}")

    @property
    def _model(self) -> Any:
        return self._trainer.model

    def _weights(self) -> Iterator[torch.Tensor]:
        yield from self._model.parameters()
        yield from self._model.buffers()

    def _write(self, step: int) -> dict[str, float]:
        self._written = time.monotonic()
        peak = peak_gib("cuda" if self._device == "cuda" else "cpu")
        parts = {name: round(value, 4) for name, value in self._parts(peak).items() if value > 0}
        event = MemoryBreakdownEvent(
            step=step, parts=parts, peak_gib=round(peak, 4), stage=self._stage
        )
        self._log.write(event)
        return parts

    def _parts(self, peak: float) -> dict[str, float]:
        weights = storage_bytes(self._weights()) / GIB
        trained = storage_bytes(p for p in self._model.parameters() if p.requires_grad) / GIB
        # Without an adapter the weights themselves are trained.
        adapter = trained if hasattr(self._model, "peft_config") else 0.0
        parts = {
            "weights": weights - adapter,
            "adapter": adapter,
            "gradients": self._gradients,
            "optimizer": self._optimizer,
        }
        overhead = self._program
        if self._device == "cuda":
            overhead = max(0.0, peak - torch.cuda.max_memory_allocated() / GIB)
        rest = peak - sum(parts.values()) - overhead
        return {**parts, "activations": max(0.0, rest), "overhead": overhead}


def storage_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Return the bytes of tensors; those that share their memory count once."""
    sizes: dict[tuple[Any, int], int] = {}
    for tensor in tensors:
        for part in _plain(tensor):
            if part.device.type != "meta":
                storage = part.untyped_storage()
                sizes[part.device, storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())


def _plain(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the tensors that a quantized tensor consists of; a plain one itself."""
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        yield tensor
        # Scales of the 4-bit weights of bitsandbytes.
        yield from _tensors(vars(getattr(tensor, "quant_state", None) or _NOTHING))
        return
    for name in flatten()[0]:
        yield from _plain(getattr(tensor, name))


class _Nothing:
    """An object without attributes."""


_NOTHING = _Nothing()


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested dictionaries and lists."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner)
