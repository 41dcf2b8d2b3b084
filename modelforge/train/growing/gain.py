"""What growing has given so far: the evaluation loss against that before, on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.layout import RunFolder
from modelforge.runs.progress.measured_events import GainEvent

# Loss of a batch times its rows, and these: their mean is the evaluation loss.
Batch = tuple[float, int]
# Two-sided 95 % of the normal distribution.
NORMAL_95 = 1.96
# An interval of fewer batches says little.
LEAST_BATCHES = 8


@dataclass
class EvaluatedBatches:
    """The losses of the batches of evaluations: before growing, and the best of a stage.

    A checkpoint saves them; those before growing are in `growth.json` of the run folder too, for
    later stages.
    """

    run: RunFolder
    before: list[Batch] = field(default_factory=list)
    best: list[Batch] = field(default_factory=list)

    @classmethod
    def of(cls, run: RunFolder) -> EvaluatedBatches:
        """Return those of a stage that begins."""
        stored = find_json(run.growth) or {}
        return cls(run, _batches(stored.get("before", ())))

    def add(self, step: int, batches: Sequence[Batch]) -> None:
        """Keep an evaluation if it is the first of the run, or the best of its stage."""
        if step == 0:
            if not self.before:
                self.before = list(batches)
                write_json(self.run.growth, {"before": self.before})
        elif not self.best or mean(batches) < mean(self.best):
            self.best = list(batches)

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"before": self.before, "best": self.best}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.before, self.best = _batches(state["before"]), _batches(state["best"])

    def event(self, stage: int) -> GainEvent | None:
        """Return what growing has given after a stage; None where it is not known."""
        if not self.before or len(self.before) != len(self.best):
            return None
        low, high = interval(self.before, self.best)
        return GainEvent(
            stage=stage,
            before=mean(self.before),
            after=mean(self.best),
            low=low,
            high=high,
            batches=len(self.best),
        )


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


def _batches(values: Sequence[Sequence[float]]) -> list[Batch]:
    return [(float(loss), int(rows)) for loss, rows in values]
