"""Starting: answers become an order, an order a run folder, and a run folder a worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from modelforge.config.plan.make import Plan
from modelforge.config.resolve import Layer, Resolved
from modelforge.data.sources.combine import RunData
from modelforge.errors import BlockedError, ForgeError
from modelforge.hardware.machine import Machine
from modelforge.models.architecture import ModelInfo
from modelforge.preflight import Report
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.machine_lease import Lease
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.process.warm_worker import Spare
from modelforge.runs.store import Store
from modelforge.services.preflight import Checked, Inquiry

TURNS = 64


@dataclass(frozen=True)
class Order:
    """All that a run folder is made of, checked."""

    name: str
    resolved: Resolved
    plan: Plan
    report: Report
    material: RunData
    facts: ModelInfo
    machine: Machine


class StartDesk:
    """Makes runs and launches them. `end_chat` ends what of ours is in the way."""

    def __init__(
        self,
        store: Store,
        supervisor: Supervisor,
        spare: Spare,
        inquiry: Inquiry,
        lease: Lease,
        end_chat: Callable[[], None],
    ) -> None:
        self._store = store
        self._supervisor = supervisor
        self._spare = spare
        self._inquiry = inquiry
        self._lease = lease
        self._end_chat = end_chat
        self._turns = [threading.Lock() for _ in range(TURNS)]

    def start(self, *layers: Layer, name: str | None, request_id: str | None) -> str:
        """Make a run and launch it, as `Forge.start` describes it."""
        with self.one_request(request_id):
            if known := self.known(request_id):
                return known.id
            order = self.prepare(*layers, name=name)
            with self._supervisor.claim():
                if known := self.known(request_id):
                    return known.id
                self.require_free()
                folder = self.create(order, request_id)
                try:
                    self.launch(folder)
                except ForgeError:
                    self._store.delete(folder.id)
                    raise
        return folder.id

    @contextmanager
    def one_request(self, request_id: str | None) -> Iterator[None]:
        """Let clicks with the same id wait for the first one, instead of checking all the same."""
        turn = self._turns[hash(request_id) % TURNS] if request_id else nullcontext()
        with turn:
            yield

    def known(self, request_id: str | None) -> RunFolder | None:
        """Return the run that this request has made already, or None."""
        return self._store.find_request(request_id) if request_id else None

    def prepare(self, *layers: Layer, name: str | None = None, idle: bool = False) -> Order:
        """Return the order that these layers come to; raises ForgeError, BlockedError among them.

        With `idle` it is judged by what the machine has when nothing runs on it.
        """
        checked = self._inquiry.check(*layers, idle=idle)
        resolved, plan, report, material = checked.require()
        if report.blocked:
            raise BlockedError(report.findings)
        if checked.facts is None or checked.machine is None:
            raise AssertionError("a check without errors is complete")
        called = name or resolved.config.logging.run_name or _name_of(checked)
        about = checked.facts, checked.machine
        return Order(called, resolved, plan, report, material, *about)

    def require_room(self, *layers: Layer) -> None:
        """Raise BlockedError where these layers cannot run here now.

        What cannot be looked up, as a model while the network is away, is the worker's to say.
        """
        report = self._inquiry.check(*layers).report
        if report is not None and report.blocked:
            raise BlockedError(report.findings)

    def create(
        self,
        order: Order,
        request_id: str | None = None,
        announce: Callable[[str], None] | None = None,
        *,
        store: Store | None = None,
    ) -> RunFolder:
        """Make the run folder of an order; `announce` hears its id before it is there.

        In a `store` other than that of the runs it is a rehearsal.
        """
        return (store or self._store).create(
            name=order.name,
            config=order.resolved.config.explicit_values(),
            origins=order.resolved.origins,
            plan=order.plan.as_dict(),
            report=order.report.as_dict(),
            dataset=order.material.as_record(),
            request_id=request_id,
            announce=announce,
            trial_run=store is not None,
        )

    def require_free(self) -> None:
        """Raise BusyError while a run, or somebody else's chat or export, holds the machine."""
        self._supervisor.require_free()
        self._lease.require_free()

    def make_way(self) -> None:
        """End our own chat, so that a run can start; raises BusyError for somebody else's."""
        self._lease.require_free()
        self._end_chat()

    def launch(self, folder: RunFolder, *, again: bool = False) -> None:
        """Start the worker of a run, `again` for one that is over and goes on; our chat makes way.

        Raises BusyError while somebody else holds the machine.
        """
        with self._supervisor.claim():
            self._supervisor.require_free()
            self.make_way()
            self._supervisor.start(folder, self._spare, again=again)


def _name_of(checked: Checked) -> str:
    """Return a name people recognise: the data and the model."""
    model = checked.facts.name.rsplit("/", 1)[-1] if checked.facts else "model"
    data = Path(checked.look.name).stem if checked.look else "data"
    return f"{data} · {model}"
