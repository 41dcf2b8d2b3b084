"""The entry point for every interface: the services of one home folder, and their housekeeping."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from modelforge.hardware.machine import Machine
from modelforge.paths import Home
from modelforge.runs.process import supervisor
from modelforge.runs.process import warm_worker as warm
from modelforge.services import chat_client
from modelforge.services.container import Commands, build_services


class Forge:
    """The services of a home, one attribute each. Thread-safe."""

    def __init__(
        self,
        home: Home,
        *,
        worker: Sequence[str] | None = None,
        warm_worker: Sequence[str] | None = None,
        chat_process: Sequence[str] | None = None,
        probe: Callable[[Path], Machine] | None = None,
    ) -> None:
        home.root.mkdir(parents=True, exist_ok=True)
        commands = Commands(
            worker or supervisor.COMMAND,
            warm_worker or warm.COMMAND,
            chat_process or chat_client.COMMAND,
        )
        services = build_services(home, commands, probe)
        self.home = home
        self.machine = services.machine
        self.layers = services.layers
        self.preflight = services.preflight
        self.runs = services.runs
        self.queue = services.queue
        self.resume = services.resume
        self.history = services.history
        self.storage = services.storage
        self.datasets = services.datasets
        self.diagnosis = services.diagnosis
        self.trial_runs = services.trial_runs
        self.memory_trace = services.memory_trace
        self.chat = services.chat
        self._supervisor = services.supervisor
        self._warm_worker = services.warm_worker

    def warm(self) -> None:
        """Start a warm worker unless a run or trial run is active. Returns at once."""
        if self.runs.active() is None and self.trial_runs.active() is None:
            self._warm_worker.warm()

    @property
    def is_warm(self) -> bool:
        """Whether a warm worker has finished its imports."""
        return self._warm_worker.ready

    def tend(self) -> None:
        """Do the periodic work: stops, idle processes, due queue entries. Call every second."""
        self._supervisor.tend()
        self.trial_runs.tend()
        self._warm_worker.tend()
        self.chat.tend()
        self.queue.tend()

    def close(self) -> None:
        """End the warm worker and the chat process. Runs continue."""
        self._warm_worker.close()
        self.chat.close()
