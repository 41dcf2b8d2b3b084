"""Check settings, create the run folder and start the worker."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from modelforge.config.plan.make import Plan
from modelforge.config.resolve import Layer, Resolved
from modelforge.data.sources.combine import RunData
from modelforge.errors import BlockedError, BusyError, ForgeError
from modelforge.hardware.machine import Machine
from modelforge.models.architecture import ModelInfo
from modelforge.preflight import Report
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.process.warm_worker import WarmWorker
from modelforge.runs.store import NewRun, Store
from modelforge.services.chat import ChatService
from modelforge.services.preflight import PreflightResult, PreflightService

REQUEST_LOCKS = 64


@dataclass(frozen=True)
class RunSpec:
    """Everything a run folder is created from, checked."""

    name: str
    resolved: Resolved
    plan: Plan
    report: Report
    data: RunData
    facts: ModelInfo
    machine: Machine

    def create_in(
        self,
        store: Store,
        request_id: str | None = None,
        announce: Callable[[str], None] | None = None,
        *,
        trial_run: bool = False,
    ) -> RunFolder:
        """Create the folder; `announce` receives the id before the folder is visible."""
        new_run = NewRun(
            name=self.name,
            config=self.resolved.config.explicit_values(),
            origins=self.resolved.origins,
            plan=self.plan.as_dict(),
            report=self.report.as_dict(),
            dataset=self.data.as_record(),
            request_id=request_id,
            trial_run=trial_run,
        )
        return store.create(new_run, announce)


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
    ) -> None:
        self._store = store
        self._supervisor = supervisor
        self._warm_worker = warm_worker
        self._preflight = preflight
        self._chat = chat
        self._request_locks = [threading.Lock() for _ in range(REQUEST_LOCKS)]

    def request_lock(self, request_id: str | None) -> AbstractContextManager[object]:
        """Return a lock that makes requests with the same id wait for the first one."""
        if not request_id:
            return nullcontext()
        return self._request_locks[hash(request_id) % REQUEST_LOCKS]

    def find_request(self, request_id: str | None) -> RunFolder | None:
        """Return the run that this request has created already, or None."""
        return self._store.find_request(request_id) if request_id else None

    def prepare(self, *layers: Layer, name: str | None = None, idle: bool = False) -> RunSpec:
        """Check the settings and return what the run is created from.

        With `idle` the machine counts as unused. Raises ForgeError with all problems, BlockedError
        with all findings.
        """
        checked = self._preflight.check(*layers, idle=idle)
        resolved, plan, report, data = checked.require()
        if report.blocked:
            raise BlockedError(report.findings)
        if checked.facts is None or checked.machine is None:
            raise AssertionError("a check without errors is complete")
        title = name or resolved.config.logging.run_name or _default_name(checked)
        return RunSpec(title, resolved, plan, report, data, checked.facts, checked.machine)

    def require_fit(self, *layers: Layer) -> None:
        """Raise BlockedError if a run with these settings cannot run here now.

        Errors of the check, such as a model that the Hub cannot confirm offline, are ignored.
        """
        report = self._preflight.check(*layers).report
        if report is not None and report.blocked:
            raise BlockedError(report.findings)

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

    def create(
        self,
        spec: RunSpec,
        request_id: str | None = None,
        announce: Callable[[str], None] | None = None,
    ) -> RunFolder:
        """Create a run folder; `announce` receives its id before it is visible."""
        return spec.create_in(self._store, request_id, announce)

    def launch(
        self, folder: RunFolder, supervisor: Supervisor | None = None, *, again: bool = False
    ) -> None:
        """End our chat and start the worker; `again` for a run that is over and continues.

        The caller holds `claim` and has called `require_free`.
        """
        self._chat.close()
        (supervisor or self._supervisor).launch(folder, self._warm_worker, again=again)

    def discard(self, folder: RunFolder) -> None:
        """Delete a run that could not be started."""
        with contextlib.suppress(ForgeError):
            self._store.delete(folder.id)


def _default_name(checked: PreflightResult) -> str:
    """Return a name made of the dataset and the model."""
    model = checked.facts.name.rsplit("/", 1)[-1] if checked.facts else "model"
    data = Path(checked.summary.name).stem if checked.summary else "data"
    return f"{data} · {model}"
