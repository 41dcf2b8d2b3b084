"""Start sweeps, do their periodic work, and show them.

A sweep trains one trial at a time. A trial is an ordinary run in the queue, which pauses where
`rounds.py` says: it is stopped and resumed. Its evaluations are reported to the study, which says
when it has fallen behind. All of it is in files, so a server that was killed goes on where it was.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from modelforge.config.resolve import Layer, flatten
from modelforge.config.schema.base import about
from modelforge.errors import ConfigError, ForgeError, NotFoundError, Problem, RunError
from modelforge.paths import Home
from modelforge.runs.atomic_files import disk_error
from modelforge.runs.evaluations import EvaluationRequest
from modelforge.runs.events import iter_events
from modelforge.runs.listing import TRIAL_REQUEST
from modelforge.runs.process.lock import exclusive
from modelforge.runs.states import RunState
from modelforge.services.evaluations.service import EvaluationService
from modelforge.services.preflight import PreflightService
from modelforge.services.queue import QueueService
from modelforge.services.runs import RunService
from modelforge.services.sweeps.plan import SweepPrice, new_record, price_of
from modelforge.services.sweeps.pricing import Price, first_rung, measured_price
from modelforge.services.sweeps.record import SweepFolder, SweepRecord, find_sweep, sweep_folders
from modelforge.services.sweeps.rounds import Rounds, Step
from modelforge.services.sweeps.space import Dimension
from modelforge.services.sweeps.study import (
    OWN,
    SPREAD_TRIALS,
    Study,
    Trial,
    is_installed,
    require_package,
)
from modelforge.services.sweeps.verdict import compare_rows, sentence

log = logging.getLogger(__name__)

LOCK = ".lock"
SEED = 20
TEND_S = 2.0
# After so many failed trials in a row, the others are likely to fail too.
MOST_FAILED = 5
# By this share of the time a trial that is trained to its end may be late.
GRACE = 0.05


@dataclass(frozen=True)
class SweepView:
    """A sweep. Times are Unix seconds."""

    id: str
    name: str
    created: float
    deadline: Annotated[float, about("When it is over at the latest.")]
    is_stopped: Annotated[bool, about("Whether a stop was requested.")]
    is_comparing: Annotated[
        bool, about("Whether all trials have ended and their models are compared.")
    ]
    is_over: bool
    dimensions: tuple[Dimension, ...]
    total_steps: Annotated[int, about("The steps of a trial that is not stopped.")]
    trials: Annotated[list[Trial], about("Its trials; the first has the user's own settings.")]
    best: Annotated[int | None, about("The number of the best trial; null without one.")]
    result: Annotated[
        dict[str, Any] | None,
        about("`sentence` and what it rests on; null while the sweep is in progress."),
    ]


class SweepService:
    """The sweeps of a home. Thread-safe; several servers may share a home."""

    def __init__(
        self,
        home: Home,
        preflight: PreflightService,
        runs: RunService,
        queue: QueueService,
        evaluations: EvaluationService,
    ) -> None:
        self._home = home
        self._preflight = preflight
        self._runs = runs
        self._queue = queue
        self._evaluations = evaluations
        self._tended = float("-inf")
        self._ended: dict[str, SweepView] = {}

    # Start and read

    def start(
        self, *layers: Layer, dimensions: Sequence[Dimension], budget_s: float, name: str = ""
    ) -> str:
        """Start a sweep with these settings and return its id; `tend` does the work.

        Raises what the start of a run raises, MissingPackageError, and ConfigError if the time is
        too short or the settings have no evaluation; then nothing has been created.
        """
        require_package()
        checked = self._preflight.check(*layers, idle=True)
        record = new_record(checked, dimensions, budget_s, name)
        stamp = datetime.fromtimestamp(record.created, UTC).strftime("%Y%m%d-%H%M%S")
        folder = SweepFolder(self._home.sweeps / f"{stamp}-{secrets.token_hex(2)}")
        staged = SweepFolder(self._home.sweeps / f".new-{folder.id}")
        try:
            staged.path.mkdir(parents=True)
            staged.write(record)
            staged.path.rename(folder.path)
        except OSError as error:
            raise disk_error(error, folder.path) from error
        finally:
            shutil.rmtree(staged.path, ignore_errors=True)
        return folder.id

    def price(self, *layers: Layer) -> SweepPrice:
        """Return what a trial with these settings takes; raises what `start` raises."""
        return price_of(self._preflight.check(*layers, idle=True))

    def settings(self, sweep_id: str, number: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return the user's settings, nested, and the values of a trial; raises NotFoundError."""
        _folder, record = self._find(sweep_id)
        for trial in self.view(sweep_id).trials:
            if trial.number == number:
                return record.settings, trial.values
        what = f"The sweep has no trial {number}."
        raise NotFoundError(Problem("trial", what, "`modelforge sweeps ID` lists its trials."))

    def list(self) -> list[SweepView]:
        """Return the sweeps, the newest first."""
        views = []
        for folder in reversed(list(sweep_folders(self._home.sweeps))):
            with contextlib.suppress(ConfigError, RunError):  # damaged
                views.append(self.view(folder.id))
        return views

    def view(self, sweep_id: str) -> SweepView:
        """Return a sweep; raises NotFoundError."""
        folder, record = self._find(sweep_id)
        if folder.id in self._ended:  # it does not change any more
            return self._ended[folder.id]
        view = self._view(folder, record)
        if view.is_over:
            self._ended[folder.id] = view
        return view

    def _view(self, folder: SweepFolder, record: SweepRecord) -> SweepView:
        result = folder.result()  # before the trials, which do not change after it
        trials = _study(folder, record).trials()
        best = _best(trials)
        return SweepView(
            id=folder.id,
            name=record.name,
            created=record.created,
            deadline=record.deadline,
            is_stopped=folder.is_stopped,
            is_comparing=result is None
            and not any(trial.is_running for trial in trials)
            and self._next(folder, record, trials) is None,
            is_over=result is not None,
            dimensions=record.dimensions,
            total_steps=record.total_steps,
            trials=trials,
            best=best.number if best else None,
            result=result,
        )

    def stop(self, sweep_id: str) -> None:
        """Request a stop: the trial in progress ends, the result is that of the others."""
        self._find(sweep_id)[0].request_stop()

    # Periodic work

    def tend(self) -> None:
        """Do the next step of every sweep in progress, at most every two seconds."""
        now = time.monotonic()
        if now - self._tended < TEND_S or not is_installed():
            return
        self._tended = now
        for folder in sweep_folders(self._home.sweeps):
            if folder.result() is not None or (record := folder.record()) is None:
                continue
            try:
                with exclusive(folder.path / LOCK):
                    self._step(folder, record)
            except ForgeError as error:  # other sweeps and the queue do not depend on it
                log.warning("The sweep %s waits: %s", folder.id, error)

    def _step(self, folder: SweepFolder, record: SweepRecord) -> None:
        study = _study(folder, record)
        study.begin(record.own)
        running = [trial for trial in study.trials() if trial.is_running]
        for trial in running:
            self._follow(folder, record, study, trial)
        if running:
            return
        trials = study.trials()
        step = self._next(folder, record, trials)
        paused = [trial for trial in trials if trial.paused]
        if step is not None and step.trial is not None:
            self._go_on(study, trials[step.trial], step.until)
        elif paused and (step is None or len(trials) > SPREAD_TRIALS):
            self._drop(study, paused)
        elif step is not None:
            self._create(folder, record, study, study.ask())
        elif (result := self._result(folder, trials)) is not None:
            folder.write_result(result)

    def _go_on(self, study: Study, trial: Trial, until: int) -> None:
        """Queue a paused trial again; after a kill in the midst of this it is called once more."""
        study.set_until(trial.number, until)
        is_waiting = any(each.run == trial.run for each in self._queue.view().runs)
        try:
            if not is_waiting and self._runs.state(trial.run) is RunState.STOPPED:
                self._queue.add_resume(trial.run)
        except ForgeError as error:
            study.fail(trial.number, str(error.problems[0]))
            return
        study.unpause(trial.number)

    def _drop(self, study: Study, trials: Sequence[Trial]) -> None:
        """End paused trials that do not go on, and delete their models."""
        for trial in trials:
            with contextlib.suppress(ForgeError):
                self._runs.discard(trial.run)
            study.prune(trial.number)

    def _create(self, folder: SweepFolder, record: SweepRecord, study: Study, trial: Trial) -> None:
        """Queue the run of a trial; the same trial never gets a second one."""
        rung = first_rung(record.total_steps)
        values = flatten(record.settings) | trial.values
        values |= {
            "max_steps": record.total_steps,
            "eval_steps": rung,
            "logging.run_name": f"{record.name[:60]} · trial {trial.number + 1}",
        }
        try:
            run_id = self._queue.add(
                Layer("sweep", values),
                request_id=f"{TRIAL_REQUEST}{folder.id}-{trial.number}",
                metadata={"sweep": folder.id},
            )
        except ForgeError as error:
            study.fail(trial.number, str(error.problems[0]))
            return
        study.set_run(trial.number, run_id)

    def _follow(self, folder: SweepFolder, record: SweepRecord, study: Study, trial: Trial) -> None:
        """Report the losses of a trial in progress, and end it where it is over or behind."""
        if not trial.run:  # the server was killed before it had noted the run
            self._create(folder, record, study, trial)
            return
        try:
            run = self._runs.folder(trial.run)
        except ForgeError as error:
            study.fail(trial.number, str(error.problems[0]))
            return
        # Before the state: a run leaves the queue when it has been started.
        queued = {each.run: each.why_held for each in self._queue.view().runs}
        state, last = self._runs.state(trial.run), 0
        for each in iter_events(run.events):
            step, loss = each.data.get("step"), each.data.get("loss")
            if each.kind == "eval" and step and loss is not None:
                last = int(step)
                study.report(trial.number, last, float(loss))
        until = Rounds(record.total_steps, Price(record.seconds)).until(trial)
        is_behind = study.falls_behind(trial.number) and until == record.total_steps
        if trial.run in queued:
            self._fail_if_held(study, trial, queued[trial.run])
        elif state.is_over:
            self._end(study, trial, state, until)
        elif last < record.total_steps and (is_behind or self._must_stop(folder, record, until)):
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

    def _fail_if_held(self, study: Study, trial: Trial, why: str) -> None:
        if why:
            with contextlib.suppress(ForgeError):
                self._queue.remove(trial.run)
            study.fail(trial.number, why)

    def _must_stop(self, folder: SweepFolder, record: SweepRecord, until: int) -> bool:
        """Return whether a trial is to end now; one that is trained to its end may be late."""
        grace = GRACE * (record.deadline - record.created) if until == record.total_steps else 0.0
        return folder.is_stopped or time.time() > record.deadline + grace

    def _next(
        self, folder: SweepFolder, record: SweepRecord, trials: Sequence[Trial]
    ) -> Step | None:
        """Return what to do when no trial is in progress; None if the sweep is to end."""
        if self._must_stop(folder, record, 0):
            return None
        if not trials:
            return Step(record.total_steps)
        own = trials[OWN]
        # What the user's own settings cannot do, no trial is likely to do.
        failed = [each.state == "fail" for each in trials[-MOST_FAILED:]]
        if own.state == "fail" or (len(failed) == MOST_FAILED and all(failed)):
            return None
        price = Price(record.seconds)
        with contextlib.suppress(ForgeError):
            price = measured_price(self._runs.folder(own.run), self._runs.view(own.run))
        return Rounds(record.total_steps, price).next(trials, record.deadline - time.time())

    # The result

    def _result(self, folder: SweepFolder, trials: Sequence[Trial]) -> dict[str, Any] | None:
        """Return the result of a sweep; None while its evaluations are in progress."""
        best, own = _best(trials), trials[OWN] if trials else None
        ended = {"ended": time.time(), "trials": len(trials)}
        if best is None or own is None or own.state != "complete" or own.loss is None:
            reason = own.reason if own is not None else ""
            text = f"Your own settings were not trained to the end. {reason}".strip()
            return {**ended, "kind": "no-result", "sentence": text}
        if best.number == OWN:
            text = f"No trial was better than your own settings ({own.loss:.3f}). Keep them."
            return {**ended, "kind": "own", "best": OWN, "sentence": text}
        try:
            reports = [self._evaluated(folder, trial) for trial in (own, best)]
        except ForgeError as error:  # a run or its model was deleted
            log.warning("The trials of the sweep %s are not compared: %s", folder.id, error)
            reports = []
        if None in reports:
            return None
        compared = compare_rows(*reports) if reports else None
        difference = compared.difference if compared else None
        return {
            **ended,
            "kind": difference.kind if difference else "no-difference",
            "best": best.number,
            "values": best.values,
            "difference": None if difference is None else difference.value,
            "interval": None if difference is None else difference.interval,
            "metric": compared.metric if compared else None,
            "better": compared.better if compared else None,
            "rows": difference.rows if difference else 0,
            "sentence": sentence(compared, own.loss, best.loss or 0.0),
        }

    def _evaluated(self, folder: SweepFolder, trial: Trial) -> Any:
        """Return the report on a trial, empty if it failed; None until it is there."""
        request = EvaluationRequest(trial.run, answers=False, prompted=False, general=False)
        made = self._evaluations.start(request, request_id=f"sweep-{folder.id}-{trial.number}")
        view = self._evaluations.view(made.id)
        return (view.report or {}) if view.state.is_over else None

    def _find(self, sweep_id: str) -> tuple[SweepFolder, SweepRecord]:
        folder = find_sweep(self._home.sweeps, sweep_id)
        record = folder.record()
        if record is None:
            what = f"The record of the sweep {sweep_id} is damaged."
            raise ConfigError(Problem("sweep", what, "Delete its folder."))
        return folder, record


def _study(folder: SweepFolder, record: SweepRecord) -> Study:
    """Return the study of a sweep; raises RunError if its journal cannot be read."""
    require_package()
    first = first_rung(record.total_steps)
    try:
        return Study(folder.path, record.dimensions, first=first, seed=SEED)
    except Exception as error:
        what = f"The study of the sweep {folder.id} cannot be read: {type(error).__name__}."
        raise RunError(Problem("sweep", what, f"Delete {folder.path}.")) from error


def _best(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial with the lowest loss among those that were trained to the end."""
    complete = [each for each in trials if each.state == "complete" and each.loss is not None]
    return min(complete, key=lambda each: each.loss or 0.0, default=None)
