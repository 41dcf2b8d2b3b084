"""Which share of the tokens is masked in each stage of growing a model.

By time step, the shares are a list: the stage takes its own, or every batch takes one at random.
Otherwise the share rises from the first stage to the last by a schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from math import cos, e, exp, pi

from modelforge.errors import Problem

LEAST, MOST = 0.15, 0.9
# Shares of the twelve time steps in Stack-Wise's guide; its code has eight, from 0.15 to 0.85.
_GUIDE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99)
DEFAULT_STEPS = 8


class MaskBy(StrEnum):
    """What chooses the share: the schedule, or the time step by the stage or by the batch."""

    NONE = "none"
    DEPTH = "depth"
    INPUT = "input"


class MaskSchedule(StrEnum):
    """How the share rises from the least to the most."""

    LINEAR = "linear"
    EXPONENTIAL = "exponential"
    COSINE = "cosine"

    def at(self, position: float) -> float:
        """Return the part of the rise, from 0 to 1, at a position from 0 to 1."""
        if self is MaskSchedule.EXPONENTIAL:
            return (exp(position) - 1) / (e - 1)
        if self is MaskSchedule.COSINE:
            return (1 - cos(pi * position)) / 2
        return position


@dataclass(frozen=True)
class Masking:
    """Which tokens are masked.

    Attributes:
        by: what chooses the share.
        fractions: share per time step, ascending, each from 0 to 1.
        least: share of the first stage, with `MaskBy.NONE`.
        most: share of the last stage, with `MaskBy.NONE`.
        schedule: rise from the least to the most, with `MaskBy.NONE`.
    """

    by: MaskBy = MaskBy.NONE
    fractions: tuple[float, ...] = ()
    least: float = LEAST
    most: float = MOST
    schedule: MaskSchedule = MaskSchedule.LINEAR

    def of_stage(self, stage: int, stages: int) -> tuple[float, ...]:
        """Return the shares of a stage; every batch takes one of them at random.

        Stages behind the last time step, such as the joint one, keep its share.
        """
        if self.by is MaskBy.INPUT:
            return self.fractions
        if self.by is MaskBy.DEPTH:
            return (self.fractions[min(stage, len(self.fractions) - 1)],)
        position = min(stage / (stages - 1), 1.0) if stages > 1 else 0.0
        return (self.least + (self.most - self.least) * self.schedule.at(position),)


def default_fractions(steps: int = DEFAULT_STEPS) -> tuple[float, ...]:
    """Return Stack-Wise's shares for a number of time steps, at least 1.

    Twelve steps have the list of its guide; others rise evenly from 0.15 to 0.85, as its code's.
    """
    if steps == len(_GUIDE):
        return _GUIDE
    return tuple(round(0.15 + 0.7 * step / max(steps - 1, 1), 4) for step in range(steps))


def mask_problems(masking: Masking, steps: int) -> list[Problem]:
    """Return what is wrong with the shares.

    Args:
        masking: the shares.
        steps: number of time steps, which the list must have.
    """
    if masking.by is not MaskBy.NONE:
        return _list_problems(masking.fractions, steps)
    problems = [
        Problem(f"progressive.{name}", f"{value:g} is not a share from 0 to 1.", "Enter a share.")
        for name, value in (("mask_min", masking.least), ("mask_max", masking.most))
        if not 0 <= value <= 1
    ]
    if not problems and masking.least > masking.most:
        what = f"{masking.least:g} is above progressive.mask_max, {masking.most:g}."
        problems.append(Problem("progressive.mask_min", what, "Lower it."))
    return problems


def _list_problems(fractions: Sequence[float], steps: int) -> list[Problem]:
    where = "progressive.mask_fractions"
    problems = []
    if len(fractions) != steps:
        what = f"It has {len(fractions)} values, and progressive.mask_steps is {steps}."
        problems.append(Problem(where, what, "Make them equal."))
    wrong = [value for value in fractions if not 0 <= value <= 1]
    if wrong:
        problems.append(
            Problem(where, f"{wrong[0]:g} is not a share from 0 to 1.", "Enter shares.")
        )
    for before, after in pairwise(fractions):
        if after < before:
            what = f"{after:g} follows {before:g}, and shares of later time steps are not lower."
            problems.append(Problem(where, what, "Sort them."))
            break
    return problems
