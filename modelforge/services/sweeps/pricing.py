"""What a sweep costs, and whether another trial fits before its deadline."""

from __future__ import annotations

import time
from dataclasses import dataclass

from modelforge.errors import ConfigError, Problem
from modelforge.runs.event_types import PlanEvent
from modelforge.runs.events import iter_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.scheduling.schedule_times import parse_time
from modelforge.runs.view import RunView
from modelforge.units import human_duration

# Rungs of a trial: after an eighth, a quarter, a half and all of its steps.
RUNG_SHARE = 8
# A sweep has its own settings and so many first rungs at least.
FEWEST_TRIALS = 2
# What a trial takes on average where the better half goes on at each of three rungs.
MEAN_SHARE = 1 / 8 + 1 / 16 + 1 / 16 + 1 / 16


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


def require_time(price: Price, total_steps: int, budget_s: float, places: int = 1) -> None:
    """Raise ConfigError if a budget has no time for a search; `places` trials train at a time."""
    first = price.of(first_rung(total_steps) / total_steps)
    # With several places the first rungs are reached beside the first trial.
    needed = price.whole + (FEWEST_TRIALS * first if places == 1 else 0.0)
    if budget_s < needed:
        what = (
            f"{human_duration(budget_s)} are too short: one run takes about "
            f"{human_duration(price.whole)}, and a search at least {human_duration(needed)}."
        )
        remedy = "Give more time, or make the runs shorter with max_steps."
        raise ConfigError(Problem("budget", what, remedy))


def expected_trials(price: Price, budget_s: float, places: int = 1) -> int:
    """Return about how many trials a budget has time for, the user's own settings among them."""
    return 1 + max(0, int((places * budget_s - price.whole) / price.of(MEAN_SHARE)))


def read_budget(text: str) -> float:
    """Return the seconds of a duration such as 4h, or until a time of day; raises ConfigError."""
    now = time.time()
    text = text.strip()
    try:
        return parse_time(text if ":" in text or text.startswith("+") else f"+{text}", now) - now
    except ConfigError as error:
        what = f"{text[:40]!r} is neither a duration nor a time of day."
        raise ConfigError(Problem("budget", what, "Write 4h, 2h30m or 07:00.")) from error
