"""Build all services of one home folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelforge.hardware.machine import Machine
from modelforge.paths import Home
from modelforge.runs.index import Index
from modelforge.runs.process import supervisor as training
from modelforge.runs.process import warm_worker as warm
from modelforge.runs.process.machine_lease import MachineLease
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.process.warm_worker import WarmWorker
from modelforge.runs.store import LOCK, Store
from modelforge.runs.timeline import TimelineReaders
from modelforge.runs.view import read_row
from modelforge.services import chat_client
from modelforge.services.chat import ChatModels, ChatService
from modelforge.services.chat_client import ChatClient
from modelforge.services.datasets import DatasetService
from modelforge.services.diagnosis import DiagnosisService
from modelforge.services.history import HistoryService
from modelforge.services.layers import LayerService
from modelforge.services.machine import MachineService
from modelforge.services.measurements import MemoryTraceStore, TrialRunResults
from modelforge.services.memory_trace import MemoryTraceService
from modelforge.services.preflight import PreflightService
from modelforge.services.queue import QueueService
from modelforge.services.resume import ResumeService
from modelforge.services.runs import RunService
from modelforge.services.start import RunLauncher
from modelforge.services.storage import StorageService
from modelforge.services.trial_runs import TrialRunService


@dataclass(frozen=True)
class Commands:
    """The commands of the child processes; tests replace them by stand-ins."""

    worker: Sequence[str] = training.COMMAND
    warm_worker: Sequence[str] = warm.COMMAND
    chat: Sequence[str] = chat_client.COMMAND


@dataclass(frozen=True)
class Services:
    """All services of a home, and the two objects that the housekeeping of `Forge` needs."""

    machine: MachineService
    layers: LayerService
    preflight: PreflightService
    runs: RunService
    queue: QueueService
    resume: ResumeService
    history: HistoryService
    storage: StorageService
    datasets: DatasetService
    diagnosis: DiagnosisService
    trial_runs: TrialRunService
    memory_trace: MemoryTraceService
    chat: ChatService
    supervisor: Supervisor
    warm_worker: WarmWorker


def build_services(
    home: Home, commands: Commands, probe: Callable[[Path], Machine] | None = None
) -> Services:
    """Build the services of a home. Every service gets what it uses as constructor arguments."""
    index = Index(home, read_row)
    store = Store(home, index=index)
    lock = home.runs / LOCK
    lease = MachineLease(home.lease, lock)
    supervisor = Supervisor(home, index=index, lease=lease, command=commands.worker)
    warm_worker = WarmWorker(home, command=commands.warm_worker)
    trial_store = Store(home, runs=home.trial_runs)
    trial_supervisor = Supervisor(home, runs=home.trial_runs, command=commands.worker)
    trial_lease = MachineLease(home.lease, lock)

    machine = MachineService(home, probe)
    results, traces = TrialRunResults(home.trial_runs), MemoryTraceStore(home)
    preflight = PreflightService(home, machine, results, traces)
    chat_models = ChatModels(store, supervisor, preflight, machine)
    chat = ChatService(ChatClient(home, commands.chat), chat_models, supervisor, lease)
    launcher = RunLauncher(store, supervisor, warm_worker, preflight, chat)
    history = HistoryService(index, store)
    runs = RunService(store, supervisor, launcher, chat, history, TimelineReaders())
    return Services(
        machine=machine,
        layers=LayerService(machine, preflight),
        preflight=preflight,
        runs=runs,
        queue=QueueService(home, store, supervisor, launcher),
        resume=ResumeService(runs, launcher),
        history=history,
        storage=StorageService(home, store, history),
        datasets=DatasetService(home, preflight, warm_worker, supervisor),
        diagnosis=DiagnosisService(home, runs),
        trial_runs=TrialRunService(launcher, trial_store, trial_supervisor, trial_lease, results),
        memory_trace=MemoryTraceService(preflight, traces, warm_worker),
        chat=chat,
        supervisor=supervisor,
        warm_worker=warm_worker,
    )
