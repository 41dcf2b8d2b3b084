"""Save and restore the state of all random number generators.

`torch.random.fork_rng` does this for torch only; Python's and NumPy's generators are used too, and
checkpoints need the state itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class RngState:
    """The state of the generators; the torch states are uint8 tensors. `cuda` is None if unused."""

    python: Any
    numpy: Any
    cpu: torch.Tensor
    cuda: torch.Tensor | None

    @classmethod
    def now(cls) -> RngState:
        """Return the current state."""
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda)

    def restore(self) -> None:
        """Set all generators to this state."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda)


@contextmanager
def preserve_rng() -> Iterator[None]:
    """Restore the state of all generators afterwards."""
    before = RngState.now()
    try:
        yield
    finally:
        before.restore()
