"""The result of CORE: the score of each task, their mean, and how far the mean may be off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from modelforge.data.core_tasks import CoreTask, Kind

# Quantile of the normal distribution for an interval of 95 %.
_Z = 1.959964


@dataclass(frozen=True)
class TaskScore:
    """The score of one task.

    Attributes:
        name: label of the task.
        kind: how its rows are scored.
        rows: rows that were scored, at least 1.
        shots: examples in front of each row.
        accuracy: share of right answers, from 0 to 1.
        baseline: share of right answers by guessing, from 0 to below 1.
    """

    name: str
    kind: Kind
    rows: int
    shots: int
    accuracy: float
    baseline: float

    @property
    def centred(self) -> float:
        """The score: 0 is guessing, 1 is all correct; negative below guessing."""
        return (self.accuracy - self.baseline) / (1 - self.baseline)

    @property
    def variance(self) -> float:
        """Variance of the score, since only some of all possible rows were asked.

        With the shares of Agresti and Coull (1998), which are never 0 or 1: that a model has all
        rows of a small task wrong does not make its score certain.
        """
        count = self.rows + _Z**2
        share = (self.accuracy * self.rows + _Z**2 / 2) / count
        return share * (1 - share) / count / (1 - self.baseline) ** 2


@dataclass(frozen=True)
class CoreResult:
    """The scores of all tasks, at least one."""

    tasks: tuple[TaskScore, ...]

    @property
    def score(self) -> float:
        """CORE: the plain mean of the centred scores."""
        return sum(task.centred for task in self.tasks) / len(self.tasks)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean, for other rows of the same tasks."""
        variance = sum(task.variance for task in self.tasks) / len(self.tasks) ** 2
        half = _Z * math.sqrt(variance)
        return self.score - half, self.score + half


def task_score(task: CoreTask, accuracy: float, most: int) -> TaskScore:
    """Return the score of a task whose first `most` rows were asked."""
    rows = min(most, len(task.rows))
    return TaskScore(task.name, task.kind, rows, task.shots, accuracy, task.baseline)


def as_data(tasks: Sequence[TaskScore]) -> list[dict[str, str | int | float]]:
    """Return the scores of tasks as events have them, rounded to six digits."""
    return [
        {
            "name": task.name,
            "kind": task.kind,
            "rows": task.rows,
            "shots": task.shots,
            "accuracy": round(task.accuracy, 6),
            "baseline": round(task.baseline, 6),
            "score": round(task.centred, 6),
        }
        for task in tasks
    ]
