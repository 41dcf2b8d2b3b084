"""The windows of a training from nothing, in the order in which they are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from modelforge.modeling.pretraining.token_file import TokenWindows

Window = dict[str, NDArray[np.int64]]


class WindowDataset(Protocol):
    """A map-style dataset of windows, all of the same length."""

    @property
    def context(self) -> int:
        """Tokens of a window."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Window: ...


class Selectable:
    """What the trial run and the search for a batch size ask of a dataset."""

    def select(self, rows: Sequence[int]) -> Selection:
        """Return the dataset of these windows."""
        assert isinstance(self, TrainingWindows | EvalWindows | Selection), "one of this module"
        return Selection(self, list(rows))

    def token_counts(self) -> list[int]:
        """Return the tokens of each window."""
        assert isinstance(self, TrainingWindows | EvalWindows | Selection), "one of this module"
        return [self.context] * len(self)


@dataclass(frozen=True)
class TrainingWindows(Selectable):
    """The windows of all steps of a training, one after the other.

    Every pass over the text has an order of its own, which depends on the seed and the number of
    the pass alone. A step always has a whole batch: the next pass begins where one ends.

    Attributes:
        windows: The windows of one pass.
        seed: Seed of the orders.
        count: Windows of the training.
    """

    windows: TokenWindows
    seed: int
    count: int

    @property
    def context(self) -> int:
        """Tokens of a window."""
        return self.windows.context

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Window:
        if not 0 <= index < self.count:
            raise IndexError(index)
        number, place = divmod(index, len(self.windows))
        return self.windows[int(order_of_pass(self.seed, number, len(self.windows))[place])]


@dataclass(frozen=True)
class EvalWindows(Selectable):
    """The windows of the evaluation text, at most `limit` of them, spread over it evenly."""

    windows: TokenWindows
    limit: int

    @property
    def context(self) -> int:
        """Tokens of a window."""
        return self.windows.context

    def __len__(self) -> int:
        return min(self.limit, len(self.windows))

    def __getitem__(self, index: int) -> Window:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.windows[index * len(self.windows) // len(self)]


@dataclass(frozen=True)
class Selection(Selectable):
    """Some windows of another dataset."""

    dataset: WindowDataset
    rows: list[int]

    @property
    def context(self) -> int:
        """Tokens of a window."""
        return self.dataset.context

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Window:
        return self.dataset[self.rows[index]]


@lru_cache(maxsize=2)
def order_of_pass(seed: int, number: int, count: int) -> NDArray[np.int64]:
    """Return the order of `count` windows in a pass over the text; passes are numbered from 0."""
    return np.random.default_rng([seed, number]).permutation(count)


def collate(windows: list[Window]) -> dict[str, Any]:
    """Return a batch: `input_ids` and `shift_labels`, both (batch, context) int64."""
    names = ("input_ids", "shift_labels")
    return {name: torch.from_numpy(np.stack([each[name] for each in windows])) for name in names}
