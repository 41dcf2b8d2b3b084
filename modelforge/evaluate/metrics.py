"""The metrics of a report: each contestant with its interval, and tuned against base model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modelforge.diagnosis.comparison import (
    Difference,
    Direction,
    compare,
    effect_worth_having,
)
from modelforge.diagnosis.intervals import (
    Interval,
    mean_interval,
    ratio_interval,
    score_interval,
)
from modelforge.evaluate.contestants import BASE, PROMPTED, TUNED

Unit = Literal["nats", "ratio", "share", "score"]
CONTESTANTS = (BASE, PROMPTED, TUNED)


@dataclass(frozen=True)
class Metric:
    """A metric: its name in files, its label and help for people, its unit and direction."""

    name: str
    label: str
    help: str
    unit: Unit
    direction: Direction

    @property
    def is_bounded(self) -> bool:
        """Whether its values are from 0 to 1."""
        return self.unit in ("share", "score")


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "loss", "Loss", "How unlikely the model finds the expected answer, in nats per token.",
            "nats", "lower",
        ),
        Metric(
            "perplexity", "Perplexity", "How surprised the model is by the expected answer.",
            "ratio", "lower",
        ),
        Metric(
            "exact_match", "Exact match",
            "Answers that equal the expected one, apart from case, articles and punctuation.",
            "share", "higher",
        ),
        Metric(
            "f1", "F1", "How many words the answer shares with the expected one.",
            "score", "higher",
        ),
        Metric(
            "rougeL", "ROUGE-L", "How much of the expected wording appears in the answer.",
            "score", "higher",
        ),
        Metric(
            "reward_margin", "Reward margin",
            "How much more likely the model finds the better of two completions, in nats.",
            "nats", "higher",
        ),
        Metric(
            "reward", "Reward", "Mean reward of the answers, by the rule of the run.",
            "score", "higher",
        ),
        Metric(
            "valid_json", "Valid JSON", "Answers that are a JSON object or list.",
            "share", "higher",
        ),
        Metric(
            "tool_call", "Tool call", "Answers with the right calls, or rightly without one.",
            "share", "higher",
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """Values of a metric by contestant; NaN where a row has none.

    `values` has arrays of shape (rows,), `weights` of shape (rows,) such as numbers of tokens.
    """

    metric: Metric
    values: Mapping[str, NDArray[np.float64]]
    weights: NDArray[np.float64] | None = None

    @property
    def rows(self) -> int:
        """The number of rows with a value of the tuned model."""
        return int(np.isfinite(self.values[TUNED]).sum()) if TUNED in self.values else 0

    def difference(self, other: str = BASE, contestant: str = TUNED) -> Difference | None:
        """Return how a contestant compares with another one; None unless both are measured."""
        if other not in self.values or contestant not in self.values:
            return None
        before, after = self.values[other], self.values[contestant]
        return compare(
            before,
            after,
            direction=self.metric.direction,
            worth_having=effect_worth_having(self.metric.unit, before),
            weights=self.weights,
            bounded=self.metric.is_bounded,
        )

    def mean(self, contestant: str) -> float | None:
        """Return the mean over the rows that have a value, weighted if there are weights."""
        values = self.values.get(contestant)
        if values is None or not np.isfinite(values).any():
            return None
        known = np.isfinite(values)
        weights = None if self.weights is None else self.weights[known]
        return float(np.average(values[known], weights=weights))

    def interval(self, contestant: str) -> Interval | None:
        """Return the interval of the mean."""
        values = self.values[contestant]
        if self.weights is not None:
            interval = ratio_interval(values * self.weights, self.weights)
            # No token has a loss below zero, and neither has their mean.
            return interval and Interval(max(0.0, interval.low), interval.high)
        if self.metric.is_bounded:
            return score_interval(values)
        return mean_interval(values)

    def entry(self) -> dict[str, Any]:
        """Return the entry of the report."""
        difference = self.difference()
        return {
            "name": self.metric.name,
            "label": self.metric.label,
            "help": self.metric.help,
            "unit": self.metric.unit,
            "direction": self.metric.direction,
            "rows": self.rows,
            "contestants": {name: self._contestant(name) for name in CONTESTANTS},
            "difference": None if difference is None else difference_entry(difference),
            **self._of_rows(),
        }

    def _of_rows(self) -> dict[str, Any]:
        """Return the values of the tuned model by row, so that two runs can be compared."""
        values = self.values.get(TUNED, np.zeros(0))
        weights = None if self.weights is None else self.weights.tolist()
        return {
            "row_values": [
                round(each, 6) if math.isfinite(each) else None for each in values.tolist()
            ],
            "row_weights": weights,
        }

    def _contestant(self, name: str) -> dict[str, Any] | None:
        mean = self.mean(name)
        if mean is None:
            return None
        interval = self.interval(name)
        return {"value": mean, "interval": None if interval is None else list(interval)}


def difference_entry(difference: Difference) -> dict[str, Any]:
    """Return a difference as in the report."""
    return {
        "value": difference.value,
        "interval": difference.interval,
        "kind": difference.kind,
    }


def perplexity_of(loss: Measured) -> dict[str, Any]:
    """Return the entry of perplexity: that of the loss, on the scale of its exponential."""
    entry = loss.entry()
    del entry["row_values"], entry["row_weights"]
    metric = METRICS["perplexity"]
    for name in ("name", "label", "help", "unit", "direction"):
        entry[name] = getattr(metric, name)
    for contestant in entry["contestants"].values():
        if contestant is not None:
            contestant["value"] = _exp(contestant["value"])
            if contestant["interval"] is not None:
                contestant["interval"] = [_exp(end) for end in contestant["interval"]]
    difference, base = entry["difference"], loss.mean(BASE)
    if difference is not None and base is not None and difference["value"] is not None:
        scale = _exp(base)
        difference["value"] = scale * math.expm1(min(difference["value"], 700.0))
        if difference["interval"] is not None:
            ends = (min(end, 700.0) for end in difference["interval"])
            difference["interval"] = [scale * math.expm1(end) for end in ends]
    return entry


def score_texts(
    metric: str,
    score: Callable[[Sequence[str], Sequence[Sequence[str]]], Sequence[float]],
    answers: Mapping[str, Sequence[str | None]],
    references: Sequence[Sequence[str] | None],
) -> Measured:
    """Return a metric of the answers of each contestant; rows without references have no value."""
    values = {}
    for contestant, texts in answers.items():
        pairs = enumerate(zip(texts, references, strict=True))
        used = [
            (at, text, refs) for at, (text, refs) in pairs if text is not None and refs is not None
        ]
        row = np.full(len(references), np.nan)
        if used:
            scores = score([text for _, text, _ in used], [refs for _, _, refs in used])
            row[[at for at, _, _ in used]] = scores
        values[contestant] = row
    return Measured(METRICS[metric], values)


def _exp(value: float) -> float:
    # exp of more than 709 overflows a float.
    return math.exp(min(value, 700.0))
