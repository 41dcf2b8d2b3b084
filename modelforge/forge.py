"""The front door: look, check, start, watch, stop and talk. Every face knocks here."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelforge.config.profiles import Profile, load_profiles, profile_settings, recommended_models
from modelforge.config.resolve import Layer
from modelforge.data.checks.summary import DatasetSummary
from modelforge.data.sources.combine import files_in_record
from modelforge.data.sources.library import Sample, load_samples
from modelforge.errors import NotFoundError, merge_errors
from modelforge.hardware import machine as machines
from modelforge.hardware.machine import Machine
from modelforge.paths import Home
from modelforge.runs.events import EventRecord, read_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.listing import Wanted
from modelforge.runs.process.machine_lease import Lease
from modelforge.runs.process.supervisor import COMMAND, Supervisor
from modelforge.runs.process.warm_worker import Spare
from modelforge.runs.states import RunState
from modelforge.runs.store import LOCK, Store
from modelforge.runs.view import RunView, view_run
from modelforge.services.chat import ChatDesk
from modelforge.services.chat_client import Talk
from modelforge.services.datasets import DataDesk
from modelforge.services.diagnosis import Aid
from modelforge.services.history import Archive
from modelforge.services.memory_trace import Footprints
from modelforge.services.preflight import Checked, Inquiry
from modelforge.services.queue import QueueDesk
from modelforge.services.resume import Again
from modelforge.services.start import StartDesk
from modelforge.services.trial_runs import TrialRuns

MACHINE_FRESH_S = 5.0


@dataclass(frozen=True)
class Prefill:
    """What the form starts from: the profile that suits this machine, its answers, and why."""

    profile: str
    title: str
    answers: dict[str, Any]
    reason: str
    practice: bool


class Forge:
    """All that ModelForge can do, for one home folder. Safe to call from several threads."""

    def __init__(
        self,
        home: Home,
        *,
        worker: Sequence[str] | None = None,
        spare: Sequence[str] | None = None,
        talker: Sequence[str] | None = None,
        probe: Callable[[Path], Machine] | None = None,
    ) -> None:
        home.root.mkdir(parents=True, exist_ok=True)
        self.home = home
        self._store = Store(home)
        command = worker or COMMAND
        self._supervisor = Supervisor(home, command=command)
        self._spare = Spare(home, command=spare) if spare else Spare(home)
        self._inquiry = Inquiry(home, self.machine)
        talk, lease = Talk(home, talker), Lease(home.lease, home.runs / LOCK)
        self._chat = ChatDesk(
            talk, self._store, self._supervisor, self._inquiry, self.machine, lease
        )
        self._starts = StartDesk(
            self._store, self._supervisor, self._spare, self._inquiry, lease, self._chat.close
        )
        self.trial_runs = TrialRuns(home, self._starts, self._supervisor, self._spare, command)
        self.footprints = Footprints(home, self._inquiry, self._spare)
        self._inquiry.look_up(self.trial_runs.known, self.footprints.known)
        self.queue = QueueDesk(
            home,
            self._store,
            self._supervisor,
            self._starts,
            chat_in_use=lambda: self._chat.in_use,
        )
        self.again = Again(self._store, self._supervisor, self._starts)
        self.archive = Archive(home, self._store, self._supervisor)
        self.data = DataDesk(home, self._inquiry, self._spare, self._reader_of)
        self.aid = Aid(home, self._store, self.start)
        self._probe = probe
        self._machine: tuple[float, Machine] | None = None
        self._probing = threading.Lock()

    # What there is

    def machine(self, *, refresh: bool = False) -> Machine:
        """Return what this computer is; at most five seconds old."""
        with self._probing:
            now = time.monotonic()
            if refresh or self._machine is None or now - self._machine[0] > MACHINE_FRESH_S:
                self._machine = (now, (self._probe or machines.probe_machine)(self.home.root))
            return self._machine[1]

    def profiles(self) -> dict[str, Profile]:
        """Return the three profiles by name."""
        return load_profiles()

    def samples(self) -> list[Sample]:
        """Return the bundled data sets."""
        return load_samples()

    def models(self, gpu_index: int = 0) -> list[dict[str, Any]]:
        """Return the models to offer on this machine, the one to begin with first."""
        machine = self.machine()
        name, _reason = machines.choose_profile(machine, gpu_index)
        return recommended_models(name, practice=machine.practice_mode)

    def prefill(self, gpu_index: int = 0) -> Prefill:
        """Return the answers that the form and `modelforge init` start from."""
        machine = self.machine()
        name, reason = machines.choose_profile(machine, gpu_index)
        profile = load_profiles()[name]
        answers = profile_settings(
            name, practice=machine.practice_mode, fast_bf16=machine.fast_bf16
        )
        return Prefill(name, profile.title, answers, reason, machine.practice_mode)

    # Before the start

    def look(self, dataset: str) -> DatasetSummary:
        """Return the first look at a data file: a path, an upload's name or `sample:NAME`."""
        return self._inquiry.look(dataset)

    def check(self, *layers: Layer) -> Checked:
        """Return all there is to say about these answers; bad answers become problems in it."""
        return self._inquiry.check(*layers)

    def recommended(self, *layers: Layer) -> dict[str, Any]:
        """Return the settings, by dotted names, that make a run with these answers quicker.

        What is learned stays the same, and what fits keeps fitting. Raises as a start would for
        answers, a model or data that cannot be used.
        """
        checked = self.check(*layers)
        if checked.errors:
            raise merge_errors(checked.errors)
        return checked.report.recommended if checked.report else {}

    def upload(self, filename: str, chunks: Iterator[bytes], limit_bytes: int) -> Path:
        """Keep a data file that came through a face; return where it lies."""
        return self.data.upload(filename, chunks, limit_bytes)

    # Runs

    def start(self, *layers: Layer, name: str | None = None, request_id: str | None = None) -> str:
        """Start a run and return its id; the same `request_id` never makes a second one.

        Raises ConfigError, NotFoundError, DataError, BlockedError or BusyError; then nothing
        has been created.
        """
        return self._starts.start(*layers, name=name, request_id=request_id)

    def run(self, run_id: str) -> RunView:
        """Return one run as it stands now; raises NotFoundError."""
        folder = self._store.get(run_id)
        return view_run(folder, self._supervisor.state(folder))

    def runs(self, wanted: Wanted | None = None, *, limit: int | None = None) -> list[RunView]:
        """Return the runs that are wanted and can be read, newest first; else every one.

        `archive.page` gives rows instead of whole runs, which is quick however many there are.
        """
        views = []
        for row in self.archive.page(wanted, limit=limit).rows:
            with contextlib.suppress(NotFoundError):  # deleted in between
                views.append(self.run(row.id))
        return views

    def active(self) -> str | None:
        """Return the id of the run that holds the machine, or None."""
        holder = self._supervisor.holder()
        return holder.id if holder else None

    def state(self, run_id: str) -> RunState:
        """Return the state of one run."""
        return self._supervisor.state(self._store.get(run_id))

    def folder(self, run_id: str) -> RunFolder:
        """Return the folder of one run; raises NotFoundError."""
        return self._store.get(run_id)

    def events(
        self, run_id: str, after: int = 0, most: int | None = None
    ) -> tuple[list[EventRecord], int]:
        """Return the events past byte `after`, and the byte to continue from.

        With `most` those in about so many bytes; the rest is for the next call.
        """
        return read_events(self._store.get(run_id).events, after, most)

    def log(self, run_id: str, tail_bytes: int = 16_384) -> str:
        """Return the end of the worker's log as text."""
        path = self._store.get(run_id).log
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - tail_bytes))
            return file.read().decode("utf-8", errors="replace")

    def stop(self, run_id: str, *, keep: bool = True) -> RunState:
        """Ask a run to stop, keeping what it has learned or not; return its state then."""
        folder = self._store.get(run_id)
        self._supervisor.stop(folder, keep=keep)
        return self._supervisor.state(folder)

    def delete(self, run_id: str) -> None:
        """Delete a run that is over, with everything it made; raises BusyError while it goes on."""
        folder = self._store.get(run_id)
        self._chat.let_go_of(folder)
        self._store.delete(run_id)

    # Chat

    def chat(
        self,
        target: str,
        messages: Sequence[dict[str, str]],
        *,
        tuned: bool = True,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
    ) -> Iterator[dict[str, Any]]:
        """Yield an answer of a run's model (`target` is a run's id) or of a base model (its name).

        Raises NotFoundError when there is nothing to talk to, BusyError while a run trains.
        """
        return self._chat.ask(
            target,
            messages,
            tuned=tuned,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
        )

    # Housekeeping

    def warm(self) -> None:
        """Warm a spare worker, so that the next start needs no imports. Returns at once."""
        if self._supervisor.holder() is None and self.trial_runs.active() is None:
            self._spare.warm()

    @property
    def is_warm(self) -> bool:
        """Say whether a spare worker waits, with its imports done."""
        return self._spare.ready

    def tend(self) -> None:
        """Do the small work of every few seconds: late stops, idle children, what is due next."""
        self._supervisor.tend()
        self.trial_runs.tend()
        self._spare.tend()
        self._chat.tend()
        self.queue.tend()

    def close(self) -> None:
        """Let go of the spare and the talker. Runs go on."""
        self._spare.close()
        self._chat.close()

    def _reader_of(self, path: Path) -> str | None:
        """Return the run that is going on and learns from this file, or None."""
        holder = self._supervisor.holder()
        if holder is None:
            return None
        return holder.id if path in files_in_record(self.run(holder.id).dataset) else None
