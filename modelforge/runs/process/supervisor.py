"""Start, watch and stop workers. The state is on disk, so that any server can take over."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelforge.errors import BusyError, Problem, RunError
from modelforge.paths import Home
from modelforge.runs.atomic_files import (
    FRESH_NS,
    disk_error,
    find_json,
    mtime_ns,
    write_json,
    write_text,
)
from modelforge.runs.events import last_number, size_of, tail_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.process import identity
from modelforge.runs.process.identity import CHILDREN, ProcessIdentity, wait_ended
from modelforge.runs.process.launch import Launch, read_launch, write_launch
from modelforge.runs.process.lock import exclusive
from modelforge.runs.process.log_rotation import trim_log
from modelforge.runs.process.machine_lease import MachineLease
from modelforge.runs.process.oom_killer import oom_kill_counts
from modelforge.runs.process.termination import KILL_TIMEOUT_S, OrphanTracker, StopEnforcer, age_s
from modelforge.runs.process.warm_worker import WarmWorker
from modelforge.runs.states import RunFacts, RunState, read_facts, seconds_worked
from modelforge.runs.store import LOCK, run_folders

if TYPE_CHECKING:
    from modelforge.runs.index import Index

# A started process may take this long until its command line is visible, or, for a warm worker that
# got no run, until it has ended.
LAUNCH_GRACE_S = 3.0
# Fields of a process record about what earlier workers left.
SINCE = ("after", "from", "worked_before")
COMMAND = (sys.executable, "-m", "modelforge.train")
# Follows a run that trains elsewhere.
RELAY = (sys.executable, "-m", "modelforge.launchers")
# A relay that has ended before its run is started again, but not more often than this.
RELAY_RESTART_S = 5.0


class Supervisor:
    """The workers of a folder of runs: one active run at a time, across all servers.

    `command` gets the run folder as its last argument. A worker has `stop_timeout_s` to stop, and
    `exit_timeout_s` to exit after its last event. `lease` makes `require_free` include chats and
    trial runs. A run that trains elsewhere has a relay in place of a worker, and uses no GPU.
    """

    def __init__(
        self,
        home: Home,
        *,
        runs: Path | None = None,
        index: Index | None = None,
        lease: MachineLease | None = None,
        command: Sequence[str] = COMMAND,
        stop_timeout_s: float = 30.0,
        exit_timeout_s: float = 10.0,
    ) -> None:
        self._home = home
        self._runs = runs or home.runs
        self._index = index
        self._lease = lease
        self._command = list(command)
        self._exit_timeout_s = exit_timeout_s
        # By id: the mtime of the process record, which changes with every start, and the state.
        self._settled: dict[str, tuple[int, RunState]] = {}
        # By id, of runs that wait: the mtime of the folder, which changes with every new file.
        self._waiting: dict[str, tuple[int, RunFacts]] = {}
        # By id: the worker of a run that this server has seen running.
        self._workers: dict[str, tuple[RunFolder, ProcessIdentity]] = {}
        self._stops = StopEnforcer(stop_timeout_s)
        self._orphans = OrphanTracker()

    def claim(self) -> AbstractContextManager[None]:
        """Hold the start lock, to check, create and start a run atomically. Reentrant."""
        return exclusive(self._runs / LOCK)

    def start(
        self, folder: RunFolder, warm_worker: WarmWorker | None = None, *, again: bool = False
    ) -> None:
        """Start the worker of a run, the warm worker if it is ready; ignore a started run.

        With `again` a run that is over is started again and resumes from its newest checkpoint.
        Raises BusyError while the GPU is in use, RunError if no process can be started.
        """
        with self.claim():
            if self._needs_worker(folder, again=again):
                if read_launch(folder.launch) is None:
                    self.require_free()
                self._launch(folder, warm_worker, again=again)

    def launch(
        self, folder: RunFolder, warm_worker: WarmWorker | None, *, again: bool = False
    ) -> None:
        """Start the worker for a caller that holds `claim` and has checked the GPU."""
        if self._needs_worker(folder, again=again):
            self._launch(folder, warm_worker, again=again)

    def state(self, folder: RunFolder) -> RunState:
        """Return the state of a run by its process, its files and its events."""
        known = self._settled.get(folder.id)
        if known and known[0] == mtime_ns(folder.process):
            return known[1]
        return self._gather(folder).state

    def facts(self, folder: RunFolder) -> RunFacts:
        """Return the facts of a run; those of a waiting one are read again when it changes."""
        return self._gather(folder)

    def holder(self, *, thorough: bool = False) -> RunFolder | None:
        """Return the run that is active on this computer, or None."""
        for folder, facts in self._may_change(thorough=thorough):
            if facts.state.is_active and facts.launch is None:
                return folder
        return None

    def elsewhere(self) -> list[tuple[RunFolder, Launch]]:
        """Return the active runs that train elsewhere."""
        facts = ((folder, facts) for folder, facts in self._may_change(thorough=True))
        return [(run, each.launch) for run, each in facts if each.launch and each.state.is_active]

    def queued(self) -> list[RunFolder]:
        """Return the runs that were never started."""
        return [folder for folder, facts in self._may_change() if facts.state is RunState.QUEUED]

    def require_free(self, remedy: str = "Stop it, or wait for it.") -> None:
        """Raise BusyError while a run, or a process that holds the lease, uses the GPU."""
        self._end_workers_without_folder()
        folder = self.holder(thorough=True)
        if folder is not None:
            name = (find_json(folder.config) or {}).get("name", folder.id)
            problem = Problem("machine", f"The run '{name}' is using this computer.", remedy)
            raise BusyError(problem, folder.id)
        if self._lease is not None:
            self._lease.require_free()

    def stop(self, folder: RunFolder, keep: bool = True) -> None:
        """Request a stop, with or without saving the model; return at once.

        A worker that does not stop is terminated, then killed, each after a timeout. A run that
        is over is not changed.
        """
        facts = self._gather(folder)
        if facts.state.is_over:
            return
        request = "keep" if keep else "discard"
        if not facts.stop_requested or folder.stop.read_text(encoding="utf-8") != request:
            write_text(folder.stop, request)
        if facts.process is not None and facts.launch is None:
            self._stops.enforce(folder, facts.process)

    def tend(self) -> None:
        """Enforce stops of other servers, end lingering workers and orphans, trim long logs."""
        CHILDREN.reap()
        self._end_workers_without_folder()
        alive = set()
        for folder, facts in self._may_change():
            trim_log(folder.log if facts.launch is None else folder.relay_log)
            if facts.process is None:
                self._recover_interrupted_launch(folder)
                continue
            if facts.alive:
                alive.add(folder.id)
                self._workers[folder.id] = folder, facts.process
            if facts.launch is not None:
                self._restart_relay(folder, facts)
                continue
            if facts.alive:
                self._orphans.remember(folder.id, facts.process)
            if facts.state is RunState.STOPPING:
                self._stops.enforce(folder, facts.process)
            is_ending = facts.alive and facts.state.is_over
            if is_ending and age_s(folder.events) > self._exit_timeout_s:
                identity.kill_tree(facts.process)
        self._orphans.end(alive)

    def _needs_worker(self, folder: RunFolder, *, again: bool) -> bool:
        """Return False for a run that was started already; raise RunError for a stopped one."""
        facts = read_facts(folder)
        if facts.launched and not (again and facts.state.is_over):
            return False
        if facts.stop_requested and not again:
            what = f"{folder.id} was stopped before its start."
            raise RunError(Problem("run", what, "Start a new run."))
        return True

    def _launch(self, folder: RunFolder, warm_worker: WarmWorker | None, *, again: bool) -> None:
        self._end_lingering_workers()
        if again:
            _delete_end_files(folder)
        launch = read_launch(folder.launch)
        if launch is not None and launch.is_over:
            write_launch(folder.launch, Launch(launch.target))
        self._start_worker(folder, warm_worker if launch is None else None)

    def _end_lingering_workers(self) -> None:
        """End workers that have written their last event but still hold memory."""
        for folder, facts in self._may_change(thorough=True):
            if facts.process is not None and facts.alive and facts.state.is_over:
                if not folder.exit.exists():
                    wait_ended(facts.process, self._exit_timeout_s)
                identity.kill_tree(facts.process)
                wait_ended(facts.process, KILL_TIMEOUT_S)

    def _end_workers_without_folder(self) -> None:
        """End workers whose run folder was deleted, which the files do not show any more."""
        for run_id, (folder, who) in list(self._workers.items()):
            if not who.alive:
                del self._workers[run_id]
            elif not folder.config.exists():
                identity.kill_tree(who)
                wait_ended(who, KILL_TIMEOUT_S)

    def _start_worker(self, folder: RunFolder, warm_worker: WarmWorker | None) -> None:
        earlier = find_json(folder.process)
        since = {
            "after": last_number(folder.events),
            "from": max(0, size_of(folder.events)),
            "worked_before": _seconds_worked(folder, earlier),
        }
        # If this server dies before the process is recorded, the run still counts as starting;
        # `_recover_interrupted_launch` uses the rest.
        launch = {"launching": time.time(), "launcher": ProcessIdentity.of(os.getpid()).as_dict()}
        if warm_worker is not None and warm_worker.ready and warm_worker.pid is not None:
            launch["warm"] = ProcessIdentity.of(warm_worker.pid).as_dict()
        write_json(folder.process, {**launch, "earlier": earlier, **since})
        with contextlib.suppress(OSError):
            # A run that was over is active again: its cached rows have to be refreshed.
            os.utime(self._runs)
        process = warm_worker.take(folder) if warm_worker is not None else None
        try:
            was_warm = process is not None
            if process is None:
                process = self._start_process(folder)
            who = ProcessIdentity.of(process.pid)
            try:
                write_json(folder.process, _record(who, warm=was_warm) | since)
                self._workers[folder.id] = folder, who
            except RunError:
                identity.kill_tree(who)
                wait_ended(who, KILL_TIMEOUT_S)
                raise
        except (OSError, RunError) as error:
            with contextlib.suppress(OSError, RunError):
                folder.process.unlink(missing_ok=True)
                if earlier is not None:
                    write_json(folder.process, earlier)
            if isinstance(error, OSError):
                raise self._no_start(error, folder) from error
            raise

    def _start_process(self, folder: RunFolder) -> subprocess.Popen[bytes]:
        """Start the worker of a run, or its relay."""
        command, log = self._command, folder.log
        if read_launch(folder.launch) is not None:
            command, log = list(RELAY), folder.relay_log
        return identity.start_process([*command, str(folder.path)], log, self._home)

    def _restart_relay(self, folder: RunFolder, facts: RunFacts) -> None:
        """Start the relay of a run again that was killed, or whose server was restarted."""
        recent = age_s(folder.process) < RELAY_RESTART_S
        if facts.alive or not facts.may_go_on or facts.state.is_over or recent:
            return
        with self.claim():
            if read_facts(folder).process != facts.process:
                return
            record = find_json(folder.process) or {}
            since = {name: record[name] for name in SINCE if name in record}
            with contextlib.suppress(OSError):  # the next call tries again
                who = ProcessIdentity.of(self._start_process(folder).pid)
                launched = {"launched": record.get("launched", time.time())}
                write_json(folder.process, _record(who, warm=False) | since | launched)

    def _recover_interrupted_launch(self, folder: RunFolder) -> None:
        """Finish the launch of a server that died before it recorded the process of the worker.

        A worker that it started is recorded. Without one the run is queued again, or what it was
        before a resume.
        """
        if not _was_interrupted(find_json(folder.process) or {}):
            return
        with self.claim():
            record = find_json(folder.process) or {}
            if not _was_interrupted(record) or read_facts(folder).process is not None:
                return
            since = {name: record[name] for name in SINCE if name in record}
            warm = ProcessIdentity.from_dict(record.get("warm") or {})
            cold = identity.find_by_argument(str(folder.path))
            if warm is not None and warm.alive:
                write_json(folder.process, _record(warm, warm=True) | since)
            elif cold is not None:
                write_json(folder.process, _record(cold, warm=False) | since)
            elif record.get("earlier"):
                write_json(folder.process, record["earlier"])
            else:
                folder.process.unlink()

    def _no_start(self, error: OSError, folder: RunFolder) -> RunError:
        if error.filename is not None and str(error.filename) == str(folder.log):
            return disk_error(error, folder.log)
        what = f"{self._command[0]} cannot be started: {error.strerror or type(error).__name__}."
        remedy = "Free some memory and try again, or repeat the setup: python launch.py setup."
        return RunError(Problem("worker", what, remedy))

    def _may_change(self, *, thorough: bool = False) -> Iterator[tuple[RunFolder, RunFacts]]:
        """Yield the runs whose state may still change, or whose process still runs."""
        for folder in self._index.unsettled(thorough) if self._index else run_folders(self._runs):
            known = self._settled.get(folder.id)
            if known and known[0] == mtime_ns(folder.process):
                continue
            facts = self._gather(folder)
            if facts.alive or not facts.state.is_over:
                yield folder, facts

    def _gather(self, folder: RunFolder) -> RunFacts:
        changed = mtime_ns(folder.path)
        known = self._waiting.get(folder.id)
        if known and known[0] == changed:
            return known[1]
        mark = mtime_ns(folder.process)
        facts = read_facts(folder)
        self._waiting.pop(folder.id, None)
        is_fresh = abs(time.time_ns() - changed) < FRESH_NS  # may change with the same mtime
        if facts.state is RunState.QUEUED and not is_fresh and not folder.events.exists():
            self._waiting[folder.id] = (changed, facts)
        if facts.state.is_over and not facts.alive and facts.process is not None:
            self._settled[folder.id] = (mark, facts.state)
        return facts


def _seconds_worked(folder: RunFolder, process: dict[str, Any] | None) -> float:
    """Return how long the workers up to that of this process record worked on the run."""
    newest = tail_events(folder.events)[-1:]
    if not newest:
        return 0.0
    created = (find_json(folder.config) or {}).get("created", newest[0].t)
    return seconds_worked(process or {}, newest[0].t, created)


def _was_interrupted(record: dict[str, Any]) -> bool:
    """Return whether the server that launches a run has died, and its worker is visible by now."""
    launcher = ProcessIdentity.from_dict(record.get("launcher") or {})
    if launcher is None or launcher.alive:
        return False
    return abs(time.time() - float(record["launching"])) > LAUNCH_GRACE_S


def _record(who: ProcessIdentity, *, warm: bool) -> dict[str, object]:
    about = {"host": platform.node(), "launched": time.time(), "spare": warm}
    return {**who.as_dict(), **about, "memory_kills": oom_kill_counts()}


def _delete_end_files(folder: RunFolder) -> None:
    """Delete the stop request and the record of the exit."""
    try:
        folder.stop.unlink(missing_ok=True)
        folder.exit.unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(error, folder.stop) from error
