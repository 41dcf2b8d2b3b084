"""Start and end the processes of jobs, and remove what they leave behind."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Generic

from modelforge.config.visible_gpu import visible_gpu
from modelforge.errors import ForgeError, Problem, RunError
from modelforge.paths import Home
from modelforge.runs.atomic_files import write_json
from modelforge.runs.jobs import FolderT, JobRecord, JobState, job_folders, queue_again
from modelforge.runs.process.identity import (
    CHILDREN,
    ProcessIdentity,
    kill_tree,
    start_process,
    wait_ended,
)
from modelforge.runs.process.machine_lease import MachineLease
from modelforge.runs.process.termination import OrphanTracker
from modelforge.runs.store import LOCK

KILLED_S = 5.0


class JobProcesses(Generic[FolderT]):
    """The processes of the jobs of one kind, whose folders are in `parent`.

    A job uses the GPU and the memory like a run: its process holds the GPU lease until it ends.
    The lease has a token of its own, so that other services see a job as another user.
    """

    def __init__(
        self, home: Home, parent: Path, kind: type[FolderT], command: Sequence[str]
    ) -> None:
        self._home = home
        self._parent = parent
        self._kind = kind
        self._command = list(command)
        self._lease = MachineLease(home.lease, home.runs / LOCK)
        # By id: the processes of this server, which end when their stdin ends.
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._orphans = OrphanTracker()

    def launch(self, folder: FolderT, record: JobRecord) -> None:
        """Start the process of a queued job, and give it the lease.

        The caller holds the start lock and has checked that the GPU is free. Raises ForgeError.
        """
        variables = visible_gpu(record.facts.get("gpu_index"))
        command = [*self._command, str(folder.path)]
        try:
            process = start_process(command, folder.log, self._home, variables=variables, tied=True)
        except OSError as error:
            what = f"{command[0]} cannot be started: {error.strerror or type(error).__name__}."
            remedy = "Free some memory and try again, or repeat the setup: python launch.py setup."
            raise RunError(Problem(folder.NOUN, what, remedy)) from error
        self._started[folder.id] = process
        who = ProcessIdentity.of(process.pid)
        try:
            write_json(folder.process_file, who.as_dict() | {"launched": time.time()})
            self._lease.take(folder.NOUN, record.run_name, who)
        except ForgeError:
            kill_tree(who)
            wait_ended(who, KILLED_S)
            folder.process_file.unlink(missing_ok=True)
            self._release(folder)
            raise

    def watch(self, folder: FolderT) -> None:
        """Remember what the process of a job has started: it may be killed from outside."""
        if who := folder.process():
            self._orphans.remember(folder.id, who)

    def end(self, folder: FolderT) -> None:
        """End the process of a job, with what it has started; the lease ends with it."""
        who = folder.process()
        if who is not None and who.alive:
            kill_tree(who)
            wait_ended(who, KILLED_S)
        self._release(folder)

    def clean(self, folder: FolderT) -> bool:
        """Remove the temporary files of a job that is over; return whether that is done."""
        who, state = folder.process(), folder.state()
        if not state.is_over:
            return False
        if who is not None and who.alive:
            self.end(folder)
        folders = job_folders(self._parent, self._kind)
        self._orphans.end([other.id for other in folders if other.id != folder.id])
        leftovers = list(folder.temporary)
        if state in (JobState.STOPPED, JobState.LOST):
            leftovers += folder.untested
        for path in leftovers:
            shutil.rmtree(path, ignore_errors=True)
        self._release(folder)
        return not any(path.exists() for path in leftovers)

    def close(self) -> None:
        """End the process of this server; its job is queued again for the next one."""
        for job_id, process in list(self._started.items()):
            who = ProcessIdentity.of(process.pid)
            _close_stdin(process)
            if not wait_ended(who, KILLED_S):
                kill_tree(who)
                wait_ended(who, KILLED_S)
                queue_again(self._kind(self._parent / job_id))
        self._started.clear()

    def _release(self, folder: FolderT) -> None:
        process = self._started.pop(folder.id, None)
        if process is not None:
            _close_stdin(process)
            CHILDREN.reap()


def _close_stdin(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
