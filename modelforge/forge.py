"""The entry point for every interface: the services of one home folder, and their housekeeping."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from modelforge.errors import ForgeError
from modelforge.hardware.machine import Machine
from modelforge.paths import Home
from modelforge.runs.index import Index
from modelforge.runs.presets import PresetService
from modelforge.runs.process import supervisor
from modelforge.runs.process import warm_worker as warm_process
from modelforge.runs.process.machine_lease import MachineLease
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.process.warm_worker import WarmWorker
from modelforge.runs.run_uses import RunUses
from modelforge.runs.store import LOCK, Store
from modelforge.runs.view import read_row
from modelforge.services import chat_client
from modelforge.services.chat import ChatService
from modelforge.services.chat_client import ChatClients
from modelforge.services.chats.corrections import CorrectionService
from modelforge.services.chats.questions import QuestionService
from modelforge.services.chats.saved import SavedChatService
from modelforge.services.chats.votes import VoteService
from modelforge.services.datasets import DatasetService
from modelforge.services.diagnosis import DiagnosisService
from modelforge.services.downloads import DownloadService
from modelforge.services.evaluations.at_end import EndedRuns
from modelforge.services.evaluations.growth_comparisons import GrowthComparisonService
from modelforge.services.evaluations.service import COMMAND as EVALUATOR
from modelforge.services.evaluations.service import EvaluationService
from modelforge.services.evaluations.sources import EvaluationSourceFinder
from modelforge.services.exports.run_archives import RunArchiveService
from modelforge.services.exports.service import COMMAND as EXPORTER
from modelforge.services.exports.service import ExportService
from modelforge.services.exports.settings import SettingsExportService
from modelforge.services.exports.sources import SourceFinder
from modelforge.services.history import HistoryService
from modelforge.services.layers import LayerService
from modelforge.services.machine import MachineService
from modelforge.services.preflight import PreflightService
from modelforge.services.pretraining.dial import DialService
from modelforge.services.queue import QueueService
from modelforge.services.resume import ResumeService
from modelforge.services.runs import RunService
from modelforge.services.start import RunLauncher
from modelforge.services.storage import StorageService
from modelforge.services.stored import StoredService
from modelforge.services.sweeps.service import SweepService
from modelforge.services.targets.notebooks import NotebookService
from modelforge.services.targets.service import TargetService
from modelforge.services.trash import TrashService
from modelforge.services.trial_runs import TrialRunService
from modelforge.serving.service import ServingService


class Forge:
    """The services of a home, one attribute each. Thread-safe.

    `worker`, `warm_worker`, `chat_process`, `exporter` and `evaluator` are the commands of the
    child processes, which tests replace by stand-ins.
    """

    def __init__(
        self,
        home: Home,
        *,
        worker: Sequence[str] = supervisor.COMMAND,
        warm_worker: Sequence[str] = warm_process.COMMAND,
        chat_process: Sequence[str] = chat_client.COMMAND,
        exporter: Sequence[str] = EXPORTER,
        evaluator: Sequence[str] = EVALUATOR,
        probe: Callable[[Path], Machine] | None = None,
    ) -> None:
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.home = home
        index = Index(home, read_row)
        store = Store(home, index=index)
        lease = MachineLease(home.lease, home.runs / LOCK)
        self._supervisor = training = Supervisor(home, index=index, lease=lease, command=worker)
        chat = ChatClients(home, chat_process)
        self.machine = MachineService(home, probe, is_chat_loaded=lambda: chat.main.alive)
        environment = self.machine.warm_environment
        self._warm_worker = warm = WarmWorker(home, command=warm_worker, environment=environment)
        self.preflight = PreflightService(home, self.machine, warm, index)
        self.targets = TargetService(home, training)
        self.layers = LayerService(self.machine, self.preflight, home.profiles, self.targets)
        self.chat = ChatService(chat, store, training, self.preflight, self.machine, lease)
        launcher = RunLauncher(store, training, warm, self.preflight, self.chat, self.targets)
        self.history = HistoryService(index, store)
        self.runs = RunService(store, training, launcher, self.history)
        self.queue = QueueService(home, store, training, launcher)
        self.resume = ResumeService(self.runs, launcher, self.targets)
        self.trash = TrashService(home, store, training, self.chat)
        self.storage = StorageService(home, store, self.history, self.trash)
        self.presets = PresetService(home.presets)
        self.settings_exports = SettingsExportService(home, self.preflight, self.runs.folder)
        self._add_data_services(RunUses(home, store, training))
        self.diagnosis = DiagnosisService(home, self.runs)
        self.trial_runs = TrialRunService(home, launcher, self.preflight.trial_run_results, worker)
        self.serving = ServingService(home, training, self.chat, chat_process)
        self._add_jobs(store, launcher, exporter, evaluator)
        self._add_chat_services(store)

    def _add_data_services(self, uses: RunUses) -> None:
        self.dial = DialService(self.preflight)
        self.datasets = DatasetService(self.home, self.preflight, self._warm_worker, uses)
        self.downloads = DownloadService(self.home, self.preflight.model)
        self.stored = StoredService(self.datasets, uses, self.chat, self.downloads)

    def _add_chat_services(self, store: Store) -> None:
        self.chats = SavedChatService(self.home.chats)
        self.votes = VoteService(self.chat, store)
        self.corrections = CorrectionService(self.home, self.chat.kind)
        self.questions = QuestionService(self.home.questions, self.chat, self._seconds_left)

    def _seconds_left(self, run_id: str) -> float | None:
        """Return the seconds until a run ends; None if unknown, or for another kind of work."""
        try:
            return self.runs.view(run_id).time_left()
        except ForgeError:
            return None

    def _add_jobs(
        self,
        store: Store,
        launcher: RunLauncher,
        exporter: Sequence[str],
        evaluator: Sequence[str],
    ) -> None:
        self.archives = RunArchiveService(self.home, store, self._supervisor)
        self.notebooks = NotebookService(self.home, self.preflight)
        places = (self.home, store, self._supervisor, self.machine)
        guard = self.serving.guard
        self.exports = ExportService(SourceFinder(*places), launcher, self.chat, exporter, guard)
        finder = EvaluationSourceFinder(*places)
        ended = EndedRuns(self.home, self._supervisor)
        self.evaluations = EvaluationService(finder, launcher, self.chat, evaluator, ended)
        others = (self.preflight, self.queue)
        self.growth_comparisons = GrowthComparisonService(store, self.runs, *others)
        runs = (self.runs, self.queue, self.evaluations)
        self.sweeps = SweepService(self.home, self.preflight, *runs, self.targets)

    def warm(self) -> None:
        """Start a warm worker unless a run or trial run is active. Returns at once."""
        if self.runs.active() is None and self.trial_runs.active() is None:
            self._warm_worker.warm()

    @property
    def is_warm(self) -> bool:
        """Whether a warm worker has finished its imports."""
        return self._warm_worker.ready

    def tend(self) -> None:
        """Do the periodic work: stops, idle processes, jobs, due queue entries, old trash.

        Call it every second.
        """
        self._supervisor.tend()
        self.trial_runs.tend()
        self._warm_worker.tend()
        self.chat.tend()
        # Before all that starts by itself: a question takes seconds.
        self.questions.tend()
        # Before the queue of runs, whose next run would start in each gap.
        self.exports.tend()
        self.evaluations.tend()
        self.serving.tend()
        self.sweeps.tend()
        self.queue.tend()
        self.trash.tend()

    def close(self) -> None:
        """End the API server, warm worker, chat, jobs and a download. Runs continue."""
        self.serving.close()
        self._warm_worker.close()
        self.questions.close()
        self.chat.close()
        self.exports.close()
        self.evaluations.close()
        self.downloads.close()
