"""Starts, watches and stops workers. All it knows is on disk, so any server may take over."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from modelforge.errors import BusyError, Problem, RunError
from modelforge.paths import Home
from modelforge.runs.atomic_files import disk_error, find_json, write_json, write_text
from modelforge.runs.events import last_number, size_of
from modelforge.runs.layout import RunFolder
from modelforge.runs.process import identity
from modelforge.runs.process.identity import CHILDREN, ProcessIdentity, wait_ended
from modelforge.runs.process.lock import exclusive
from modelforge.runs.process.log_rotation import trim_log
from modelforge.runs.process.machine_lease import MachineLease
from modelforge.runs.process.oom_killer import oom_kill_counts
from modelforge.runs.process.termination import KILLED_S, OrphanTracker, StopEnforcer, age_s
from modelforge.runs.process.warm_worker import WarmWorker
from modelforge.runs.states import RunFacts, RunState, read_facts
from modelforge.runs.store import LOCK, RunIndex, is_id

COMMAND = (sys.executable, "-m", "modelforge.train")


class Supervisor:
    """Looks after the workers of a home: one run at a time, over all its servers.

    `command` gets the run folder as its last argument. A worker that is asked to stop has
    `patience_s` to do so; one that has said its last word has `grace_s` to leave.
    """

    def __init__(
        self,
        home: Home,
        *,
        runs: Path | None = None,
        index: RunIndex | None = None,
        lease: MachineLease | None = None,
        command: Sequence[str] = COMMAND,
        patience_s: float = 30.0,
        grace_s: float = 10.0,
    ) -> None:
        self._home = home
        self._runs = runs or home.runs
        self._index = index
        self._lease = lease
        self._command = list(command)
        self._grace_s = grace_s
        self._settled: dict[str, tuple[int, RunState]] = {}
        self._stopping = StopEnforcer(patience_s)
        self._orphans = OrphanTracker()

    def claim(self) -> AbstractContextManager[None]:
        """Hold the right to start a run: to look, create and start as one act. Re-entrant."""
        return exclusive(self._runs / LOCK)

    def start(
        self, folder: RunFolder, spare: WarmWorker | None = None, *, again: bool = False
    ) -> None:
        """Start the worker of a run, in the spare if one is ready; a started run is left alone.

        With `again` a run that is over is started once more, and goes on by itself from its
        newest checkpoint. Raises BusyError while a run holds the machine, RunError when no
        process comes up; then nothing has been started.
        """
        with self.claim():
            if self._needs_worker(folder, again=again):
                self.require_free()
                self._launch(folder, spare, again=again)

    def launch(self, folder: RunFolder, spare: WarmWorker | None, *, again: bool = False) -> None:
        """Start the worker for a caller that holds `claim` and has checked the GPU."""
        if self._needs_worker(folder, again=again):
            self._launch(folder, spare, again=again)

    def state(self, folder: RunFolder) -> RunState:
        """Return the state of a run, read off the process table, its files and its events."""
        known = self._settled.get(folder.id)
        if known and known[0] == _mark(folder):
            return known[1]
        return self._gather(folder).state

    def holder(self, *, thorough: bool = False) -> RunFolder | None:
        """Return the run that is active, or None."""
        for folder, facts in self._unsettled(thorough=thorough):
            if facts.state.is_active:
                return folder
        return None

    def queued(self) -> list[RunFolder]:
        """Return the runs that were made and never started."""
        return [folder for folder, facts in self._unsettled() if facts.state is RunState.QUEUED]

    def require_free(self, remedy: str = "Stop it, or wait for it.") -> None:
        """Raise BusyError while a run, or a process that holds the lease, uses the GPU."""
        folder = self.holder(thorough=True)
        if folder is not None:
            name = (find_json(folder.config) or {}).get("name", folder.id)
            problem = Problem("machine", f"The run '{name}' is using the GPU.", remedy)
            raise BusyError(problem, folder.id)
        if self._lease is not None:
            self._lease.require_free()

    def stop(self, folder: RunFolder, keep: bool = True) -> None:
        """Ask a run to stop, keeping what it has learned or not; returns at once.

        A worker that does not obey is terminated, then killed, each after a patience. A run that
        is over stays as it is.
        """
        facts = self._gather(folder)
        if facts.state.is_over:
            return
        wish = "keep" if keep else "discard"
        if not facts.stop_requested or folder.stop.read_text(encoding="utf-8") != wish:
            write_text(folder.stop, wish)
        if facts.process is not None:
            self._stopping.see_to(folder, facts.process)

    def tend(self) -> None:
        """Finish what is under way: stops that another server began, workers that do not leave.

        Children of a worker that was killed are ended, logs that grow without end kept short.
        """
        CHILDREN.reap()
        alive = set()
        for folder, facts in self._unsettled():
            trim_log(folder.log)
            if facts.process is None:
                continue
            if facts.alive:
                alive.add(folder.id)
                self._orphans.remember(folder.id, facts.process)
            if facts.state is RunState.STOPPING:
                self._stopping.see_to(folder, facts.process)
            elif facts.alive and facts.state.is_over and self._has_lingered(folder):
                identity.kill_tree(facts.process)
        self._orphans.end(alive)

    def _needs_worker(self, folder: RunFolder, *, again: bool) -> bool:
        """Return False for a run that was started already; raise RunError for a stopped one."""
        facts = read_facts(folder)
        if facts.launched and not (again and facts.state.is_over):
            return False
        if facts.stop_requested and not again:
            problem = Problem(
                "run", f"{folder.id} was stopped before its start.", "Start a new run."
            )
            raise RunError(problem)
        return True

    def _launch(self, folder: RunFolder, spare: WarmWorker | None, *, again: bool) -> None:
        self._clear_the_way()
        if again:
            _forget_the_end(folder)
        self._bring_up(folder, spare)

    def _clear_the_way(self) -> None:
        """End workers that have said their last word but still hold memory."""
        for folder, facts in self._unsettled(thorough=True):
            if facts.process is not None and facts.alive and facts.state.is_over:
                if not folder.exit.exists():
                    wait_ended(facts.process, self._grace_s)
                identity.kill_tree(facts.process)
                wait_ended(facts.process, KILLED_S)

    def _bring_up(self, folder: RunFolder, spare: WarmWorker | None) -> None:
        since = {"after": last_number(folder.events), "from": max(0, size_of(folder.events))}
        earlier = find_json(folder.process)
        # Should this server die before the process is recorded, the run is known to be starting.
        write_json(folder.process, {"launching": time.time(), **since})
        with contextlib.suppress(OSError):
            # A run that was over goes on: lists that took it for settled are to look again.
            os.utime(self._runs)
        process = spare.take(folder) if spare is not None else None
        try:
            taken = process is not None
            if process is None:
                command = [*self._command, str(folder.path)]
                environment = identity.child_environment(self._home)
                process = identity.start_process(command, folder.log, environment)
            who = ProcessIdentity.of(process.pid)
            try:
                write_json(folder.process, _record(who, spare=taken) | since)
            except RunError:
                identity.kill_tree(who)
                wait_ended(who, KILLED_S)
                raise
        except (OSError, RunError) as error:
            with contextlib.suppress(OSError, RunError):
                folder.process.unlink(missing_ok=True)
                if earlier is not None:
                    write_json(folder.process, earlier)
            if isinstance(error, OSError):
                raise self._no_start(error, folder) from error
            raise

    def _no_start(self, error: OSError, folder: RunFolder) -> RunError:
        if error.filename is not None and str(error.filename) == str(folder.log):
            return disk_error(error, folder.log)
        reason = error.strerror or type(error).__name__
        return RunError(
            Problem(
                "worker",
                f"{self._command[0]} cannot be started: {reason}.",
                "Free some memory and try again, or set up anew: python launch.py setup.",
            )
        )

    def _has_lingered(self, folder: RunFolder) -> bool:
        return age_s(folder.events) > self._grace_s

    def _unsettled(self, *, thorough: bool = False) -> Iterator[tuple[RunFolder, RunFacts]]:
        """Yield the runs in which something can still happen, or whose process is still there."""
        for folder in self._index.unsettled(thorough) if self._index else self._all_folders():
            known = self._settled.get(folder.id)
            if known and known[0] == _mark(folder):
                continue
            facts = self._gather(folder)
            if facts.alive or not facts.state.is_over:
                yield folder, facts

    def _all_folders(self) -> list[RunFolder]:
        try:
            paths = sorted(self._runs.iterdir())
        except OSError:
            return []
        return [RunFolder(path) for path in paths if is_id(path.name) and path.is_dir()]

    def _gather(self, folder: RunFolder) -> RunFacts:
        mark = _mark(folder)
        facts = read_facts(folder)
        if facts.state.is_over and not facts.alive and facts.process is not None:
            self._settled[folder.id] = (mark, facts.state)
        return facts


def _record(who: ProcessIdentity, *, spare: bool) -> dict[str, object]:
    about = {"host": platform.node(), "launched": time.time(), "spare": spare}
    about["memory_kills"] = oom_kill_counts()
    return {**who.as_dict(), **about}


def _forget_the_end(folder: RunFolder) -> None:
    """Take away what says that the run is over, or was to be."""
    try:
        folder.stop.unlink(missing_ok=True)
        folder.exit.unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(error, folder.stop) from error


def _mark(folder: RunFolder) -> int:
    """Return what changes when a run is started once more."""
    try:
        return folder.process.stat().st_mtime_ns
    except OSError:
        return 0
