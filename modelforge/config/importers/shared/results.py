"""Options that follow the results of evaluations: early stopping, and schedules by results."""

from __future__ import annotations

import math
from typing import Any

from modelforge.config.importers.options import Option, Values, by, number
from modelforge.config.importers.report import Outcome
from modelforge.config.plan.training import GREEDY_HIGHEST

# Arguments of schedules by results, with the values that are always used here.
RESULT_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "patience": (),
    "max_lr": (),
    "mode": ("min", "max"),
    "eps": (0, 0.0, 1e-8),
    "factor": (0.1,),
}


def early_stopping() -> Option:
    """Return the option with the evaluations without improvement, which switches stopping on."""

    def read(value: int, _: Values) -> Outcome:
        settings = {"evaluation.early_stopping": True, "evaluation.early_stopping_patience": value}
        return Outcome("renamed", settings)

    return by(read, kind="int", least=1)


def is_share(part: Any, whole: Any) -> bool:
    """Return whether a number is a share of another one, from 0 to less than 1."""
    both = (part, whole)
    is_number = all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in both)
    return is_number and 0 <= part < whole


def result_argument(name: str, value: Any, rate: Any) -> dict[str, Any] | None:
    """Return what an argument of a schedule by results becomes; None for a value without one."""
    value = number(value)
    if name == "patience":
        return {"schedule.patience": value}
    if name == "max_lr" and is_share(rate, value):
        return {} if math.isclose(value, GREEDY_HIGHEST * rate) else None
    return {} if value in RESULT_ARGUMENTS[name] else None
