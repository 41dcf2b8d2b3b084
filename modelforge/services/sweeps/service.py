"""Start sweeps, do their periodic work, and show them.

A sweep trains as many trials at a time as its places take, by default one. `rounds.py` says which
begins or goes on next, `trials.py` follows their runs. All of it is in files, so a server that was
killed goes on where it was.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from modelforge.config.resolve import Layer
from modelforge.config.schema.base import about
from modelforge.errors import BusyError, ConfigError, ForgeError, NotFoundError, Problem, RunError
from modelforge.paths import Home
from modelforge.runs.atomic_files import disk_error
from modelforge.runs.evaluations import EvaluationRequest
from modelforge.runs.process.lock import exclusive
from modelforge.services.evaluations.service import EvaluationService
from modelforge.services.preflight import PreflightResult, PreflightService
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
from modelforge.services.sweeps.trials import Trials, has_failed, must_stop
from modelforge.services.sweeps.verdict import compare_rows, sentence
from modelforge.services.targets.service import HERE, TargetService

log = logging.getLogger(__name__)

LOCK = ".lock"
SEED = 20
TEND_S = 2.0


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
        targets: TargetService,
    ) -> None:
        self._home = home
        self._preflight = preflight
        self._runs = runs
        self._evaluations = evaluations
        self._targets = targets
        self._trials = Trials(runs, queue, targets)
        self._tended = float("-inf")
        self._ended: dict[str, SweepView] = {}

    # Start and read

    def start(
        self,
        *layers: Layer,
        dimensions: Sequence[Dimension],
        budget_s: float,
        name: str = "",
        on: Sequence[str] = (),
    ) -> str:
        """Start a sweep with these settings and return its id; `tend` does the work.

        `on` are the targets that train its trials at the same time; `here`, the only one without
        others, is this computer. Raises what the start of a run raises, MissingPackageError, and
        ConfigError if the time is too short, the settings have no evaluation, or the targets would
        not train the same; then nothing has been created.
        """
        require_package()
        checks = self._checks(layers, on)
        places = sum(self._trials.slots(checks).values())
        record = new_record(checks, dimensions, budget_s, name, places=places)
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

    def slots(self, on: Sequence[str]) -> dict[str, int]:
        """Return how many trials each place takes at a time; 0 for an unknown one."""
        return self._trials.slots(on or (HERE,))

    def price(self, *layers: Layer, on: Sequence[str] = ()) -> SweepPrice:
        """Return what a trial with these settings takes; raises what `start` raises."""
        return price_of(self._checks(layers, on))

    def _checks(self, layers: Sequence[Layer], on: Sequence[str]) -> dict[str, PreflightResult]:
        """Return the check of settings for each place; raises what the start of a run raises."""
        checks = {}
        for name in dict.fromkeys(on or (HERE,)):
            machine = None if name == HERE else self._targets.planned_for(name)[1]
            checks[name] = self._preflight.check(*layers, idle=True, machine=machine)
        return checks

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
        """Request a stop: trials in progress end, the result is that of the others."""
        self._find(sweep_id)[0].request_stop()

    def delete(self, sweep_id: str) -> None:
        """Delete a sweep that is over or damaged; its trials stay as runs.

        Raises NotFoundError, and BusyError while the sweep is in progress.
        """
        folder = find_sweep(self._home.sweeps, sweep_id)
        with contextlib.suppress(ConfigError, RunError):  # damaged
            if not self.view(sweep_id).is_over:
                what = f"The sweep {folder.id} is in progress."
                raise BusyError(Problem("sweep", what, "Stop it first."), folder.id)
        # Gone at once, also if not all files can be removed now.
        removed = folder.path.with_name(f".deleted-{folder.id}")
        try:
            folder.path.rename(removed)
        except OSError as error:
            raise disk_error(error, folder.path) from error
        shutil.rmtree(removed, ignore_errors=True)
        self._ended.pop(folder.id, None)

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
        followed = [trial for trial in study.trials() if trial.is_running]
        for trial in followed:
            self._trials.follow(folder, record, study, trial)
        trials = study.trials()
        # A place that has become free is used the next time.
        if all(trials[trial.number].is_running for trial in followed):
            while self._begin_next(folder, record, study):
                pass

    def _begin_next(self, folder: SweepFolder, record: SweepRecord, study: Study) -> bool:
        """Begin a trial or go on with one, and return whether another may; end what is over."""
        trials, places = study.trials(), self._trials.slots(record.places)
        in_progress = [trial for trial in trials if trial.is_running]
        used = Counter(trial.on for trial in in_progress)
        free = [name for name, slots in places.items() if used[name] < slots]
        if in_progress and not free:
            return False
        # Without a place, as all targets were removed, the trial fails with that cause.
        on = free[0] if free else record.places[0]
        step = self._next(folder, record, trials)
        paused = [trial for trial in trials if trial.paused]
        is_undecided = any(0 < trial.number <= SPREAD_TRIALS for trial in in_progress)
        if step is not None and step.trial is not None:
            trial = trials[step.trial]
            study.set_until(trial.number, step.until)
            self._trials.go_on(study, trial, trial.on if trial.on in free else on)
            return True
        if paused and not is_undecided and (step is None or len(trials) > SPREAD_TRIALS):
            self._trials.drop(study, paused)
        if step is not None:
            self._trials.create(folder, record, study, study.ask(), on)
            return True
        if not in_progress and (result := self._result(folder, study.trials())) is not None:
            folder.write_result(result)
        return False

    def _next(
        self, folder: SweepFolder, record: SweepRecord, trials: Sequence[Trial]
    ) -> Step | None:
        """Return what to do when a place is free; None if nothing begins now, or ever."""
        if must_stop(folder, record, 0) or has_failed(trials):
            return None
        if not trials:
            return Step(record.total_steps)
        own, price = trials[OWN], Price(record.seconds)
        if not own.is_running:
            with contextlib.suppress(ForgeError):
                price = measured_price(self._runs.folder(own.run), self._runs.view(own.run))
        places = sum(self._trials.slots(record.places).values())
        return Rounds(record.total_steps, price).next(
            trials, record.deadline - time.time(), max(1, places)
        )

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
            raise ConfigError(Problem("sweep", what, _delete(sweep_id)))
        return folder, record


def _study(folder: SweepFolder, record: SweepRecord) -> Study:
    """Return the study of a sweep; raises RunError if its journal cannot be read."""
    require_package()
    first = first_rung(record.total_steps)
    try:
        return Study(folder.path, record.dimensions, first=first, seed=SEED)
    except Exception as error:
        what = f"The study of the sweep {folder.id} cannot be read: {type(error).__name__}."
        raise RunError(Problem("sweep", what, _delete(folder.id))) from error


def _delete(sweep_id: str) -> str:
    return f"Delete it: modelforge sweeps {sweep_id} --delete."


def _best(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial with the lowest loss among those that were trained to the end."""
    complete = [each for each in trials if each.state == "complete" and each.loss is not None]
    return min(complete, key=lambda each: each.loss or 0.0, default=None)
