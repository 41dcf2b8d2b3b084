"""Check settings, create the run folder and start the worker."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.config.resolve import Layer
from modelforge.data.sources.library import sample_title
from modelforge.errors import BlockedError, BusyError, ConfigError, ForgeError, Problem
from modelforge.models.architecture import ModelInfo
from modelforge.models.fingerprint import fingerprint
from modelforge.runs.layout import RunFolder
from modelforge.runs.notes import short_model_name
from modelforge.runs.process.launch import (
    Launch,
    Target,
    launch_record,
    parse_launch,
    read_launch,
    write_launch,
)
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.process.warm_worker import WarmWorker
from modelforge.runs.store import NewRun, Store
from modelforge.runs.view import data_name
from modelforge.services.chat import ChatService
from modelforge.services.measurements import KEY
from modelforge.services.preflight import PreflightResult, PreflightService
from modelforge.services.targets.service import HERE, TargetService

REQUEST_LOCKS = 64


class StalePlanError(ConfigError):
    """The plan is not the one that was shown: settings, data, model or machine have changed."""

    def __init__(self, seen: str, current: str) -> None:
        what = f"The plan has changed: its hash is {current}, not {seen[:64]!r}."
        remedy = "Look at the new plan and its findings, then start with the new hash."
        super().__init__(Problem("plan_hash", what, remedy))


class RunLauncher:
    """Create runs and start their workers.

    Every start happens inside `claim`: the GPU is checked, the folder created and the worker
    started under one lock that all servers of a home share.
    """

    def __init__(
        self,
        store: Store,
        supervisor: Supervisor,
        warm_worker: WarmWorker,
        preflight: PreflightService,
        chat: ChatService,
        targets: TargetService,
    ) -> None:
        self._store = store
        self._supervisor = supervisor
        self._warm_worker = warm_worker
        self._preflight = preflight
        self._chat = chat
        self._targets = targets
        self._request_locks = [threading.Lock() for _ in range(REQUEST_LOCKS)]

    def create_once(
        self,
        request_id: str | None,
        prepare: Callable[[], NewRun],
        create: Callable[[NewRun], RunFolder],
    ) -> str:
        """Return the id of the run that this request has created, or else create it.

        `create` is called inside `claim`. Requests with the same id wait for the first one.
        """
        waits = self._request_locks[hash(request_id) % REQUEST_LOCKS]
        with waits if request_id else nullcontext():
            if request_id and (known := self._store.find_request(request_id)):
                return known.id
            run = prepare()
            with self.claim():
                # Another server may have handled the same request meanwhile.
                if request_id and (known := self._store.find_request(request_id)):
                    return known.id
                return create(run).id

    def prepare(
        self,
        *layers: Layer,
        name: str | None = None,
        request_id: str | None = None,
        idle: bool = False,
        plan_hash: str | None = None,
        metadata: Mapping[str, str] | None = None,
        on: str | None = None,
    ) -> NewRun:
        """Return the contents of a new run folder; `on` is the target where it is to train.

        Raises what `check` raises, and StalePlanError if `plan_hash` is that of another plan.
        """
        checked = self.check(*layers, idle=idle, on=on)
        if plan_hash not in (None, checked.plan_hash):
            raise StalePlanError(str(plan_hash), checked.plan_hash)
        run = new_run(checked, name=name, request_id=request_id)
        launch = launch_record(self._targets.get(on).target) if on else {}
        return replace(run, metadata=metadata or {}, launch=launch)

    def check(self, *layers: Layer, idle: bool = False, on: str | None = None) -> PreflightResult:
        """Return a check without errors and blockers; with `idle` the machine counts as unused.

        With `on` it is that of a target. Raises ForgeError with all problems, BlockedError with
        all findings.
        """
        machine = self._targets.planned_for(on)[1] if on else None
        idle = idle or machine is not None
        while True:
            checked = self._preflight.check(*layers, idle=idle, machine=machine)
            report = checked.require()[2]
            if report.blocked:
                raise BlockedError(report.findings)
            if idle or not self._chat.close_if_unmeasured():
                return checked

    def require_fit(self, *layers: Layer, on: str | None = None) -> Plan | None:
        """Raise BlockedError if a run with these settings cannot run here now, or on a target.

        Returns the plan. Errors of the check, such as a model that the Hub cannot confirm offline,
        are ignored.
        """
        if on is None:
            self._chat.close_if_unmeasured()
        machine = self._targets.planned_for(on)[1] if on else None
        checked = self._preflight.check(*layers, idle=on is not None, machine=machine)
        report = checked.report
        if report is not None and report.blocked:
            raise BlockedError(report.findings)
        return checked.plan

    def claim(self) -> AbstractContextManager[None]:
        """Hold the start lock of the home. Reentrant."""
        return self._supervisor.claim()

    def require_free(self) -> None:
        """Raise BusyError while a run, a trial run or another server's chat uses the GPU."""
        self._supervisor.require_free()

    def busy_reason(self) -> str:
        """Return why no run can start now, including a chat in use here; empty if one can."""
        try:
            self.require_free()
        except BusyError as error:
            return error.problems[0].sentence
        return self._chat.in_use

    def require_slot(self, target: Target) -> None:
        """Raise BusyError while a target takes no further run."""
        if reason := self._targets.busy_reason(target):
            remedy = "Wait for it, or add the run to the queue."
            what = reason.removeprefix(f"{target.name} ")
            raise BusyError(Problem(target.name, what, remedy), target.name)

    def move(self, folder: RunFolder, on: str) -> None:
        """Let a run that is over train at a target, or `here`, next; the caller holds `claim`."""
        if on == HERE:
            folder.launch.unlink(missing_ok=True)
        else:
            # The start makes a new record of one that is over.
            write_launch(folder.launch, Launch(self._targets.get(on).target, is_over=True))

    def busy_targets(self) -> dict[str, str]:
        """Return why a target takes no further run, by the names of those that do not."""
        return self._targets.busy_reasons(self._targets.list())

    def start(
        self, run: NewRun, fill: Callable[[RunFolder], None] = lambda _folder: None
    ) -> RunFolder:
        """Create a run folder, `fill` it and start its worker; on an error nothing is left."""
        if launch := parse_launch(run.launch):
            self.require_slot(launch.target)
        else:
            self.require_free()
        folder = self._store.create(run)
        try:
            fill(folder)
            self.launch(folder)
        except ForgeError:
            with contextlib.suppress(ForgeError):
                self._store.delete(folder.id)
            raise
        return folder

    def launch(
        self, folder: RunFolder, supervisor: Supervisor | None = None, *, again: bool = False
    ) -> None:
        """End our chat and start the worker; `again` for a run that is over and continues.

        The caller holds `claim` and has called `require_free`. A run that trains elsewhere leaves
        the chat alone.
        """
        if read_launch(folder.launch) is None:
            self._chat.close()
        (supervisor or self._supervisor).launch(folder, self._warm_worker, again=again)


def new_run(
    checked: PreflightResult,
    *,
    name: str | None = None,
    request_id: str | None = None,
    trial_run: bool = False,
) -> NewRun:
    """Return the contents of a run folder; by default its name consists of data and model."""
    resolved, plan, report, data, facts = checked.require()
    values = resolved.config.explicit_values()
    file_name = Path(checked.summary.name).stem if checked.summary else "data"
    data_title = sample_title(data_name(values)) or file_name
    default_name = f"{data_title} · {short_model_name(facts.name)}"
    return NewRun(
        name=name or resolved.config.logging.run_name or default_name,
        config=values,
        origins=resolved.origins,
        plan=plan.as_dict(),
        report=report.as_dict() | {KEY: checked.trial_run_key},
        dataset=data.as_record(),
        base=_base_record(facts),
        request_id=request_id,
        trial_run=trial_run,
    )


def _base_record(model: ModelInfo) -> dict[str, Any]:
    """Return what identifies a base model later: its revision on the Hub, or a hash."""
    is_folder = model.local and model.revision is None
    digest = fingerprint(Path(model.path)) if is_folder else ""
    return {"name": model.name, "revision": model.revision, "hash": digest}
