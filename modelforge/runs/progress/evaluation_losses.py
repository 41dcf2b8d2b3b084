"""Losses of the evaluation batches of a run, and how two trainings differ on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import sqrt

from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.layout import RunFolder

# Loss of a batch times its rows, and these: their mean is the evaluation loss.
Batch = tuple[float, int]
# Two-sided 95 % of the normal distribution.
NORMAL_95 = 1.96
# An interval of fewer batches says little.
LEAST_BATCHES = 8


@dataclass(frozen=True)
class EvaluationLosses:
    """The losses of the evaluation batches of a run, in their order.

    Attributes:
        rows: SHA-256 of the evaluation rows as tokens, in hexadecimal.
        before: before the first step; empty where that was not evaluated.
        after: of the weights that are kept; empty before the first evaluation.
    """

    rows: str = ""
    before: list[Batch] = field(default_factory=list)
    after: list[Batch] = field(default_factory=list)


def read_evaluation_losses(run: RunFolder) -> EvaluationLosses:
    """Return the losses of a run; empty lists where it has none, or the file is damaged."""
    stored = find_json(run.evaluation_losses) or {}
    try:
        before, after = as_batches(stored["before"]), as_batches(stored["after"])
        return EvaluationLosses(str(stored["rows"]), before, after)
    except (KeyError, TypeError, ValueError):
        return EvaluationLosses()


def write_evaluation_losses(run: RunFolder, losses: EvaluationLosses) -> None:
    """Write the file atomically."""
    write_json(run.evaluation_losses, asdict(losses))


def mean(batches: Sequence[Batch]) -> float:
    """Return the evaluation loss."""
    return sum(loss for loss, _ in batches) / max(1, sum(rows for _, rows in batches))


def interval(before: Sequence[Batch], after: Sequence[Batch]) -> tuple[float | None, float | None]:
    """Return the 95 % interval of how much lower the evaluation loss is.

    The batches are pairs with the same rows; the error of the ratio of sums is linearized.
    """
    if len(before) < LEAST_BATCHES:
        return None, None
    lower = mean(before) - mean(after)
    rows = sum(count for _, count in before)
    rest = [
        one - other - lower * count for (one, count), (other, _) in zip(before, after, strict=True)
    ]
    count = len(before)
    error = sqrt(count / (count - 1) * sum(each**2 for each in rest)) / max(1, rows)
    return lower - NORMAL_95 * error, lower + NORMAL_95 * error


def as_batches(values: Sequence[Sequence[float]]) -> list[Batch]:
    """Return batches that were read from JSON."""
    return [(float(loss), int(rows)) for loss, rows in values]
