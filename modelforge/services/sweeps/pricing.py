"""What a sweep costs, and whether another trial fits before its deadline."""

from __future__ import annotations

from dataclasses import dataclass

from modelforge.errors import ConfigError, Problem
from modelforge.runs.event_types import PlanEvent
from modelforge.runs.events import iter_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.view import RunView
from modelforge.units import human_duration

# Rungs of a trial: after an eighth, a quarter, a half and all of its steps.
RUNG_SHARE = 8
# A sweep has its own settings and so many first rungs at least.
FEWEST_TRIALS = 2


@dataclass(frozen=True)
class Price:
    """Seconds of a whole trial, and of what comes before its first step."""

    whole: float
    before: float = 0.0

    def of(self, share: float) -> float:
        """Return the seconds of a share of the steps."""
        return self.before + (self.whole - self.before) * share


def first_rung(total_steps: int) -> int:
    """Return the step after which a trial may be stopped first."""
    return max(1, total_steps // RUNG_SHARE)


def measured_price(folder: RunFolder, view: RunView) -> Price:
    """Return the price by a run that is over."""
    began = view.launched or view.created
    plans = (each.t for each in iter_events(folder.events) if each.kind == PlanEvent.kind)
    planned = next(plans, began)
    return Price(max(1.0, view.duration), max(0.0, min(planned - began, view.duration)))


def require_time(price: Price, total_steps: int, budget_s: float) -> None:
    """Raise ConfigError if a budget has no time for a search."""
    share = first_rung(total_steps) / total_steps
    needed = price.whole + FEWEST_TRIALS * price.of(share)
    if budget_s < needed:
        what = (
            f"{human_duration(budget_s)} are too short: one run takes about "
            f"{human_duration(price.whole)}, and a search at least {human_duration(needed)}."
        )
        remedy = "Give more time, or make the runs shorter with max_steps."
        raise ConfigError(Problem("budget", what, remedy))
