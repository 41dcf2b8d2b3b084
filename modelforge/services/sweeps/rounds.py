"""What a sweep does next: begin a trial, go on with a paused one, or end.

Successive halving in rounds. The first trials pause at the first rung; the better half goes on to
the next one, as long as there is time to train the best of them to its end. Later trials do not
pause. The trial with the user's own settings is trained to its end and is not compared in rounds.

Where several trials train at the same time, a rung is decided when no trial is on its way to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelforge.services.sweeps.pricing import Price, first_rung
from modelforge.services.sweeps.study import OWN, REDUCTION, SPREAD_TRIALS, Trial


@dataclass(frozen=True)
class Step:
    """What is next: a new trial, or the paused trial `trial`; it pauses at the step `until`."""

    until: int
    trial: int | None = None


@dataclass(frozen=True)
class Rounds:
    """The rungs of a sweep and what a trial costs.

    Args:
        total_steps: the steps of a whole trial.
        price: of one trial, in seconds.
    """

    total_steps: int
    price: Price

    @property
    def rungs(self) -> list[int]:
        """The steps at which trials are compared; the last one is the end."""
        steps, rung = [], first_rung(self.total_steps)
        while rung <= self.total_steps // REDUCTION:
            steps.append(rung)
            rung *= REDUCTION
        return [*steps, self.total_steps]

    def until(self, trial: Trial) -> int:
        """Return the step at which a trial pauses; the last one if it does not."""
        if trial.number == OWN:
            return self.total_steps
        is_early = trial.number <= SPREAD_TRIALS
        return trial.until or (self.rungs[0] if is_early else self.total_steps)

    def next(self, trials: Sequence[Trial], left_s: float, places: int = 1) -> Step | None:
        """Return what to do in the seconds that are left, when one of the places is free.

        None if nothing more comes to a result, or not before a trial in progress has ended.
        """
        if len(trials) <= SPREAD_TRIALS and self._has_time_to_begin(trials, left_s):
            return Step(self.rungs[0])
        if step := self._promotion(trials, left_s):
            return step
        early = _early(trials)
        is_undecided = any(trial.is_running for trial in early)
        if not is_undecided and (finalist := self._finalist(trials, left_s)):
            return Step(self.total_steps, finalist.number)
        kept = sum(self._may_go_on(trials, trial) for trial in early) if is_undecided else 0
        used = sum(trial.is_running for trial in trials if trial not in early)
        is_possible = len(trials) > SPREAD_TRIALS and left_s >= self._seconds(0, self.rungs[0])
        return Step(self.total_steps) if is_possible and places > kept + used else None

    def _promotion(self, trials: Sequence[Trial], left_s: float) -> Step | None:
        """Return the next paused trial of the better half that goes on to another pause."""
        for rung, after in zip(self.rungs, self.rungs[1:], strict=False):
            if self._is_awaited(trials, rung):
                break
            better = self._better(trials, rung)
            for trial in better if len(better) > 1 else ():
                seconds = self._seconds(rung, after) + self._to_end(after)
                if trial.paused == rung and left_s >= seconds:
                    return Step(after, trial.number)
        return None

    def _is_awaited(self, trials: Sequence[Trial], rung: int) -> bool:
        """Return whether a trial is on its way to a rung."""
        return any(trial.is_running and self.until(trial) <= rung for trial in _early(trials))

    def _may_go_on(self, trials: Sequence[Trial], trial: Trial) -> bool:
        """Return whether an early trial is in progress, or paused and not yet in the worse half."""
        is_open = self._is_awaited(trials, trial.paused) or trial in self._better(
            trials, trial.paused
        )
        return trial.is_running or (trial.paused > 0 and is_open)

    def _has_time_to_begin(self, trials: Sequence[Trial], left_s: float) -> bool:
        """Return whether another trial reaches its first rung and one of all can be completed."""
        first = self.rungs[0]
        begun = self._seconds(0, first)
        furthest = max((trial.paused for trial in trials), default=0)
        rest = self._to_end(furthest or first)
        if left_s < (rest if furthest else begun + rest):
            return left_s >= begun  # no trial can be completed: the first rungs alone tell
        return left_s >= begun + rest

    def _better(self, trials: Sequence[Trial], rung: int) -> list[Trial]:
        """Return the better half of the trials that have reached a rung, the best first."""
        reached = sorted(
            (trial for trial in trials if trial.number != OWN and rung in trial.losses),
            key=lambda trial: trial.losses[rung],
        )
        return reached[: max(1, len(reached) // REDUCTION)]

    def _finalist(self, trials: Sequence[Trial], left_s: float) -> Trial | None:
        """Return the best of the paused trials that have come furthest, if it can be completed."""
        for rung in reversed(self.rungs[:-1]):
            for trial in self._better(trials, rung):
                if trial.paused == rung and left_s >= self._to_end(rung):
                    return trial
        return None

    def _seconds(self, start: int, end: int) -> float:
        return self.price.of((end - start) / self.total_steps)

    def _to_end(self, step: int) -> float:
        return self._seconds(step, self.total_steps) if step < self.total_steps else 0.0


def _early(trials: Sequence[Trial]) -> Sequence[Trial]:
    """Return the trials that pause."""
    return trials[OWN + 1 : SPREAD_TRIALS + 1]
