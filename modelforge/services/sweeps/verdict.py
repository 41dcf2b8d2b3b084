"""Whether the best trial of a sweep is better than the user's own settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelforge.diagnosis.comparison import Difference, compare, effect_worth_having

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Compared:
    """How the best trial differs from the user's own settings on the same evaluation rows.

    Attributes:
        metric: Name of what was compared, for people.
        sign: -1 where lower is better, otherwise 1.
    """

    difference: Difference
    metric: str
    sign: int

    @property
    def better(self) -> str:
        """The side on which values are better: lower or higher."""
        return "lower" if self.sign < 0 else "higher"


def compare_rows(own: Report, best: Report) -> Compared | None:
    """Compare two reports of evaluations row by row, by the metric that decides.

    None where they are not of the same rows.
    """
    metrics = [(report.get("metrics") or [None])[0] for report in (own, best)]
    if None in metrics:
        return None
    base, tuned = metrics
    rows = base["name"], base["row_weights"], len(base["row_values"])
    if rows != (tuned["name"], tuned["row_weights"], len(tuned["row_values"])):
        return None
    known = np.array(base["row_values"], np.float64)
    difference = compare(
        known,
        np.array(tuned["row_values"], np.float64),
        direction=base["direction"],
        worth_having=effect_worth_having(base["unit"], known),
        weights=base["row_weights"],
        bounded=base["unit"] in ("share", "score"),
    )
    return Compared(difference, base["label"].lower(), -1 if base["direction"] == "lower" else 1)


def sentence(compared: Compared | None, own: float, best: float) -> str:
    """Return the result in words: what to do with the best trial."""
    losses = f"The best trial reached {best:.3f}, your own settings {own:.3f}."
    difference = compared.difference if compared else None
    if compared is None or difference is None or difference.value is None:
        return f"{losses} The rows could not be compared one by one."
    sign = compared.sign
    how_sure = ""
    if difference.low is not None and difference.high is not None:
        ends = sorted((sign * difference.low, sign * difference.high))
        how_sure = f" (95 % interval {ends[0]:.3f} to {ends[1]:.3f})"
    by = f"{sign * difference.value:.3f}{how_sure}"
    if difference.kind == "better":
        gain = f"On the same rows its {compared.metric} is {compared.better} by {by}."
        return f"{losses} {gain} Use the best trial."
    needed = difference.rows_needed
    rows = f" About {needed:,} evaluation rows would be needed." if needed else ""
    chance = f"the difference of {by} on {difference.rows} rows may be chance."
    return f"{losses} No difference shown: {chance}{rows} Keep your settings."
