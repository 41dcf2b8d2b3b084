"""Live tensors of a model in bytes, by kind, and their peak.

A dispatch mode counts storages, which views share. On the meta device it costs 30 microseconds for
each of about 10,000 operators of a step; FakeTensorMode takes five times that, and
torch.distributed._tools.mem_tracker also hooks every module.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from modelforge.train.environment import MMAP_THRESHOLD_BYTES
from modelforge.train.trainer.private import ITEM_OP, TorchDispatchMode, storage_id
from modelforge.units import MIB

# glibc's DEFAULT_MMAP_THRESHOLD_MAX: larger blocks are always returned to the system.
_KEPT_BELOW = 32 * MIB
# Kinds of tensors that are made during a step.
ACTIVATIONS, LOGITS, GRADIENTS = "activations", "logits", "gradients"


class TensorTracker(TorchDispatchMode):
    """Tracks the bytes of live storages by kind.

    Args:
        vocab_size: Tensors with this last dimension count as logits.
        read_item: Returns the value of `Tensor.item()` for a meta tensor.

    Attributes:
        now: Live bytes by kind.
        events: Allocations and releases during `recording`; see `cuda_allocator.Events`.
        transient: Bytes released during the forward pass that malloc keeps.
        small_transient: The part of them that malloc keeps with a lowered mmap threshold.
    """

    def __init__(self, vocab_size: int, read_item: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self._vocab_size, self._read_item = vocab_size, read_item
        self._storages: dict[int, tuple[Any, int, str]] = {}
        self._total = 0
        self.now: Counter[str] = Counter()
        self._peak, self._at_peak = 0, dict[str, int]()
        self.events: list[tuple[int, int]] = []
        self.transient = self.small_transient = 0
        self._is_forward = False

    def register(self, tensors: Iterable[torch.Tensor], kind: str) -> None:
        """Count these tensors under a kind, also those that are tracked already."""
        for tensor in tensors:
            key = storage_id(tensor)
            known = self._storages.get(key)
            if known is None:
                self._track(tensor, kind)
            elif known[2] != kind:
                reference, size, earlier = known
                self.now[earlier] -= size
                self.now[kind] += size
                self._storages[key] = reference, size, kind

    def register_gradients(self, model: torch.nn.Module) -> None:
        """Count the tensors in `grad` of the model's parameters as gradients."""

        def accumulated(parameter: torch.Tensor) -> None:
            if parameter.grad is not None:
                self.register([parameter.grad], GRADIENTS)

        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(accumulated)

    @contextmanager
    def recording(self) -> Iterator[dict[str, int]]:
        """Yield a dict that afterwards holds the bytes of each kind at the peak."""
        result: dict[str, int] = {}
        self._peak, self._at_peak = self._total, dict(self.now)
        self.events, self._is_forward = [], True
        self.transient = self.small_transient = 0
        with self:
            yield result
        result.update(self._at_peak)

    def end_forward(self) -> None:
        """Mark the beginning of the backward pass."""
        self._is_forward = False

    def __torch_dispatch__(
        self, operator: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call the operator and track the tensors it returns."""
        if operator is ITEM_OP and args[0].is_meta:
            return self._read_item(args[0])
        output = operator(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, (tuple, list)) else (output,):
            if isinstance(tensor, torch.Tensor):
                is_logits = tensor.dim() > 1 and tensor.shape[-1] == self._vocab_size
                self._track(tensor, LOGITS if is_logits else ACTIVATIONS)
        return output

    def _track(self, tensor: torch.Tensor, kind: str) -> None:
        key = storage_id(tensor)
        if key in self._storages:
            return
        storage = tensor.untyped_storage()
        size = storage.nbytes()

        def released(_reference: Any) -> None:
            _, size, kind = self._storages.pop(key)
            self.now[kind] -= size
            self._total -= size
            self.events.append((key, -1))
            if self._is_forward and size < _KEPT_BELOW:
                self.transient += size
                self.small_transient += size if size < MMAP_THRESHOLD_BYTES else 0

        self.events.append((key, size))
        self._storages[key] = weakref.ref(storage, released), size, kind
        self.now[kind] += size
        self._total += size
        if self._total > self._peak:
            self._peak, self._at_peak = self._total, dict(self.now)
