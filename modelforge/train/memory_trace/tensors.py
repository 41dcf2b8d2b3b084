"""How many bytes of tensors are alive while a model works, of which kind, and at most.

Counts storages, as views share theirs, by a dispatch mode of our own: on the meta device it sees
each of some 10,000 calls of a step in 30 microseconds, where FakeTensorMode takes five times that
and torch.distributed._tools.mem_tracker, which works alike, hooks every module beside it.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from modelforge.train.environment import MMAP_THRESHOLD_BYTES
from modelforge.units import MIB

_NUMBER = torch.ops.aten._local_scalar_dense.default
# glibc's DEFAULT_MMAP_THRESHOLD_MAX: what is larger always goes back to the system.
_KEPT_BELOW = 32 * MIB
# The kinds of what is made on the way.
ACTIVATIONS, LOGITS, GRADIENTS = "activations", "logits", "gradients"


class TensorTracker(TorchDispatchMode):
    """Counts what is alive.

    `events` are what came and went while it watched, `passing` the bytes of what went before the
    forward pass was over and is small enough to be kept by malloc, `passing_small` those that it
    keeps even where it gives back what it can. `vocab` tells logits from other activations; where
    a number is read off a tensor that has none, `answer` gives it.
    """

    def __init__(self, vocab: int, answer: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self._vocab, self._answer = vocab, answer
        self._known: dict[int, tuple[Any, int, str]] = {}
        self._sum = 0
        self.now: Counter[str] = Counter()
        self._peak, self._at_peak = 0, dict[str, int]()
        self.events: list[tuple[int, int]] = []
        self.passing = self.passing_small = 0
        self._forward = False

    def own(self, tensors: Iterable[torch.Tensor], kind: str) -> None:
        """Count these from now on, and under this kind, whatever they went by before."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            known = self._known.get(storage._cdata)
            if known is None:
                self._take(tensor, kind)
            elif known[2] != kind:
                reference, size, earlier = known
                self.now[earlier] -= size
                self.now[kind] += size
                self._known[storage._cdata] = reference, size, kind

    def as_gradients(self, model: torch.nn.Module) -> None:
        """Count what is added up in `grad` as gradients."""

        def hear(parameter: torch.Tensor) -> None:
            if parameter.grad is not None:
                self.own([parameter.grad], GRADIENTS)

        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(hear)

    @contextmanager
    def watching(self) -> Iterator[dict[str, int]]:
        """Yield a dict that holds, afterwards, the bytes of each kind when they were most."""
        found: dict[str, int] = {}
        self._peak, self._at_peak = self._sum, dict(self.now)
        self.events, self._forward = [], True
        self.passing = self.passing_small = 0
        with self:
            yield found
        found.update(self._at_peak)

    def end_forward(self) -> None:
        """Take note that what goes from now on goes in the backward pass."""
        self._forward = False

    def __torch_dispatch__(self, call: Any, _types: Any, args: Any = (), named: Any = None) -> Any:
        """Do the call, and count what came of it."""
        if call is _NUMBER and args[0].is_meta:
            return self._answer(args[0])
        made = call(*args, **(named or {}))
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(tensor, torch.Tensor):
                shape = tensor.shape
                wide = len(shape) > 1 and shape[-1] == self._vocab
                self._take(tensor, LOGITS if wide else ACTIVATIONS)
        return made

    def _take(self, tensor: torch.Tensor, kind: str) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()

        def gone(_reference: Any) -> None:
            known = self._known.pop(key)
            self.now[known[2]] -= known[1]
            self._sum -= known[1]
            self.events.append((key, -1))
            if self._forward and known[1] < _KEPT_BELOW:
                self.passing += known[1]
                self.passing_small += known[1] if known[1] < MMAP_THRESHOLD_BYTES else 0

        self.events.append((key, size))
        self._known[key] = weakref.ref(storage, gone), size, kind
        self.now[kind] += size
        self._sum += size
        if self._sum > self._peak:
            self._peak, self._at_peak = self._sum, dict(self.now)
