"""What TRL measures batch by batch, when a batch is taken in pieces: one figure again."""

from __future__ import annotations

from typing import Any

from modelforge.train.trainer.microbatch import Piece
from modelforge.train.trainer.state import MEASURES

# What TRL measures over tokens, also where the loss is a mean over rows.
OF_TOKENS = ("entropy", "mean_token_accuracy")


def _measured(trainer: Any, mode: str) -> dict[str, list[Any]]:
    """Return the lists in which the trainer collects what it measures, by one name each."""
    return {
        f"{name}.{key}": values
        for name in MEASURES
        if name in vars(trainer)
        for key, values in vars(trainer)[name].get(mode, {}).items()
    }


def marks_of(trainer: Any, mode: str) -> dict[str, int]:
    """Return how long each list is by now."""
    return {name: len(values) for name, values in _measured(trainer, mode).items()}


def cut(trainer: Any, mode: str, marks: dict[str, int]) -> None:
    """Forget what was measured since then."""
    for name, values in _measured(trainer, mode).items():
        del values[marks.get(name, 0) :]


def merge(
    trainer: Any, mode: str, marks: dict[str, int], pieces: list[Piece], *, by_tokens: bool
) -> None:
    """Make one measurement of those of the pieces, as the whole batch would have given it."""
    if len(pieces) == 1:
        return
    for name, values in _measured(trainer, mode).items():
        at = marks.get(name, 0)
        fresh = values[at:]
        if len(fresh) != len(pieces):
            continue
        counts = by_tokens or name.endswith(OF_TOKENS)
        weights = [piece.tokens if counts else piece.rows for piece in pieces]
        least_or_most = min if ".min_" in name else max if ".max_" in name else None
        if least_or_most is not None:
            values[at:] = [least_or_most(fresh)]
        else:
            pairs = zip(fresh, weights, strict=True)
            values[at:] = [sum(value * weight for value, weight in pairs)]
