"""What the views of all jobs have: when a job ended, why it was lost, how long it still takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from modelforge.errors import Problem
from modelforge.runs.jobs import JobFolder, JobResult, JobState, JobStep
from modelforge.runs.process.identity import CHILDREN

# Share of a step from which its pace says how long the rest takes: before it, loading counts most.
FIRST_SHARE = 0.05
# Earlier jobs that count in a prediction, and the bounds of its correction.
RECENT = 5
LEAST, MOST = 0.02, 20.0
# The fact of a record with the predicted seconds before their correction.
FORMULA = "formula_seconds"
# The fact of a record with the files of earlier jobs whose results it takes: it is quicker.
EARLIER = "earlier"


def ended_at(folder: JobFolder, state: JobState, result: JobResult | None) -> float | None:
    """Return when a job ended, in Unix seconds; None while it waits or is in progress."""
    if result is not None:
        return result.ended
    if not state.is_over:
        return None
    newest = [folder.stop_file] if state is JobState.STOPPED else [folder.events, folder.log]
    times = [path.stat().st_mtime for path in newest if path.exists()]
    return max(times, default=None)


def seconds_left(predicted: float, steps: Sequence[JobStep]) -> float:
    """Return the predicted rest, at least that of the current step."""
    spent = sum(step.seconds for step in steps)
    left = max(0.0, predicted - spent)
    if steps and FIRST_SHARE <= steps[-1].share < 1:
        current = steps[-1]
        left = max(left, current.seconds / current.share * (1 - current.share))
    return round(left, 1)


def lost_problem(folder: JobFolder, steps: Sequence[JobStep], again: str) -> Problem:
    """Return why a job without a result ended, as far as that is known."""
    who = folder.process()
    code = CHILDREN.exit_code(who) if who else None
    during = f" during “{steps[-1].text}”" if steps else ""
    how = f" (signal {-code})" if code is not None and code < 0 else ""
    what = f"The {folder.PROCESS} ended unexpectedly{during}{how}."
    remedy = f"{again}; if memory is short, end other programs first."
    return Problem(folder.NOUN, what, f"{remedy} Its log is {folder.log}.")


def correction(earlier: Iterable[JobFolder]) -> float:
    """Return by what factor earlier jobs took longer here than the formula says.

    Args:
        earlier: jobs of the same kind, the newest first. Those that have not finished, that took
            results of others, or whose records have no `FORMULA` do not count.
    """
    ratios: list[float] = []
    for folder in earlier:
        record = folder.record()
        facts = record.facts if record else {}
        formula = facts.get(FORMULA)
        if not formula or facts.get(EARLIER) or folder.state() is not JobState.FINISHED:
            continue
        ratios.append(sum(step.seconds for step in folder.steps()) / formula)
        if len(ratios) == RECENT:
            break
    return min(MOST, max(LEAST, median(ratios))) if ratios else 1.0
