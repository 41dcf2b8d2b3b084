"""The runs of trials: queue them, follow their losses, pause them, and end what falls behind.

A trial is an ordinary run in the queue. One that pauses is stopped, keeps a checkpoint and is
resumed in the same run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence

from modelforge.config.resolve import Layer, flatten
from modelforge.errors import ForgeError
from modelforge.runs.events import iter_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.listing import TRIAL_REQUEST
from modelforge.runs.states import RunState
from modelforge.services.queue import QueueService
from modelforge.services.runs import RunService
from modelforge.services.sweeps.pricing import Price, first_rung
from modelforge.services.sweeps.record import SweepFolder, SweepRecord
from modelforge.services.sweeps.rounds import Rounds
from modelforge.services.sweeps.study import OWN, Study, Trial
from modelforge.services.targets.service import HERE, TargetService

# After so many failed trials in a row, the others are likely to fail too.
MOST_FAILED = 5
# By this share of the time a trial that is trained to its end may be late.
GRACE = 0.05


class Trials:
    """The runs of the trials of all sweeps of a home."""

    def __init__(self, runs: RunService, queue: QueueService, targets: TargetService) -> None:
        self._runs = runs
        self._queue = queue
        self._targets = targets

    def slots(self, places: Iterable[str]) -> dict[str, int]:
        """Return how many trials each place takes at a time; 0 for a target that was removed."""
        known = {each.name: each.slots for each in self._targets.list()} | {HERE: 1}
        return {name: known.get(name, 0) for name in places}

    def create(
        self, folder: SweepFolder, record: SweepRecord, study: Study, trial: Trial, on: str
    ) -> None:
        """Queue the run of a trial at a place; the same trial never gets a second one."""
        rung = first_rung(record.total_steps)
        values = flatten(record.settings) | trial.values
        values |= {
            "max_steps": record.total_steps,
            "eval_steps": rung,
            "logging.run_name": f"{record.name[:60]} · trial {trial.number + 1}",
        }
        study.set_place(trial.number, on)
        try:
            run_id = self._queue.add(
                Layer("sweep", values),
                request_id=f"{TRIAL_REQUEST}{folder.id}-{trial.number}",
                metadata={"sweep": folder.id},
                on=None if on == HERE else on,
            )
        except ForgeError as error:
            study.fail(trial.number, str(error.problems[0]))
            return
        study.set_run(trial.number, run_id)

    def go_on(self, study: Study, trial: Trial, on: str) -> None:
        """Queue a paused trial again; after a kill in the midst of this it is called once more."""
        is_waiting = any(each.run == trial.run for each in self._queue.view().runs)
        try:
            if not is_waiting and self._runs.state(trial.run) is RunState.STOPPED:
                study.set_place(trial.number, on)
                self._queue.add_resume(trial.run, on=on)
        except ForgeError as error:
            study.fail(trial.number, str(error.problems[0]))
            return
        study.unpause(trial.number)

    def drop(self, study: Study, trials: Sequence[Trial]) -> None:
        """End paused trials that do not go on, and delete their models."""
        for trial in trials:
            with contextlib.suppress(ForgeError):
                self._runs.discard(trial.run)
            study.prune(trial.number)

    def follow(self, folder: SweepFolder, record: SweepRecord, study: Study, trial: Trial) -> None:
        """Report the losses of a trial in progress, and end it where it is over or behind."""
        if not trial.run:  # the server was killed before it had noted the run
            on = trial.on if trial.on in record.places else record.places[0]
            self.create(folder, record, study, trial, on)
            return
        try:
            run = self._runs.folder(trial.run)
        except ForgeError as error:
            study.fail(trial.number, str(error.problems[0]))
            return
        # Before the state: a run leaves the queue when it has been started.
        queued = {each.run: each.why_held for each in self._queue.view().runs}
        state, last = self._runs.state(trial.run), _report(run, study, trial)
        until = Rounds(record.total_steps, Price(record.seconds)).until(trial)
        is_behind = study.falls_behind(trial.number) and until == record.total_steps
        is_useless = must_stop(folder, record, until) or study.trials()[OWN].state == "fail"
        if trial.run in queued:
            self._end_waiting(study, trial, queued[trial.run], is_useless=is_useless)
        elif state.is_over:
            self._end(study, trial, state, until)
        elif last < record.total_steps and (is_behind or is_useless):
            self._runs.stop(trial.run, keep=False)
        elif until <= last < record.total_steps:
            self._runs.stop(trial.run, keep=True)

    def _end(self, study: Study, trial: Trial, state: RunState, until: int) -> None:
        known = next(each for each in study.trials() if each.number == trial.number)
        ending = self._runs.view(trial.run).ending or {}
        if state is RunState.FINISHED and known.loss is not None:
            study.complete(trial.number, known.loss)
        elif state is RunState.STOPPED and ending.get("kept") and until in known.losses:
            study.pause(trial.number, until)
        elif state is RunState.STOPPED:
            study.prune(trial.number)
        else:
            study.fail(trial.number, str(ending.get("what") or f"The run is {state}."))
            if self._queue.view().code == "failure":  # one trial does not end the others
                self._queue.release()

    def _end_waiting(self, study: Study, trial: Trial, why: str, *, is_useless: bool) -> None:
        """End a trial in the queue that was held, with the reason, or that comes too late."""
        if not why and not is_useless:
            return
        try:
            self._queue.remove(trial.run)
        except ForgeError:  # it has begun meanwhile
            return
        if why:
            study.fail(trial.number, why)
        else:
            self.drop(study, [trial])


def _report(run: RunFolder, study: Study, trial: Trial) -> int:
    """Report the losses of a run to the study and return the step of the last one, 0 without."""
    last = 0
    for each in iter_events(run.events):
        step, loss = each.data.get("step"), each.data.get("loss")
        if each.kind == "eval" and step and loss is not None:
            last = int(step)
            study.report(trial.number, last, float(loss))
    return last


def must_stop(folder: SweepFolder, record: SweepRecord, until: int) -> bool:
    """Return whether a trial is to end now; one that is trained to its end may be late."""
    grace = GRACE * (record.deadline - record.created) if until == record.total_steps else 0.0
    return folder.is_stopped or time.time() > record.deadline + grace


def has_failed(trials: Sequence[Trial]) -> bool:
    """Return whether a sweep can have no result: its first trial, or many in a row, have failed."""
    # What the user's own settings cannot do, no trial is likely to do.
    last = [each.state == "fail" for each in trials[-MOST_FAILED:]]
    return bool(trials) and (
        trials[OWN].state == "fail" or (len(last) == MOST_FAILED and all(last))
    )
