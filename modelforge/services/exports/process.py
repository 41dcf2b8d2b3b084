"""Start and end the processes of exports, and remove what they leave behind."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

from modelforge.config.visible_gpu import visible_gpu
from modelforge.errors import ForgeError, Problem, RunError
from modelforge.paths import Home
from modelforge.runs.atomic_files import write_json
from modelforge.runs.exports import ExportFolder, ExportRecord
from modelforge.runs.jobs import JobState, job_folders, queue_again
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
from modelforge.services.exports.view import process_of

COMMAND = (sys.executable, "-m", "modelforge.export")
KILLED_S = 5.0


class Exporters:
    """The processes of exports.

    An export uses the GPU and the memory like a run: its process holds the GPU lease until it ends.
    The lease has a token of its own, so that other services see an export as another user.
    """

    def __init__(self, home: Home, command: Sequence[str] = COMMAND) -> None:
        self._home = home
        self._command = list(command)
        self._lease = MachineLease(home.lease, home.runs / LOCK)
        # By id: the exporters of this server, which end when their stdin ends.
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._orphans = OrphanTracker()

    def launch(self, folder: ExportFolder, record: ExportRecord) -> None:
        """Start the exporter of a queued export, and give it the lease.

        The caller holds the start lock and has checked that the GPU is free. Raises ForgeError.
        """
        variables = visible_gpu(record.facts.get("gpu_index"))
        command = [*self._command, str(folder.path)]
        try:
            process = start_process(command, folder.log, self._home, variables=variables, tied=True)
        except OSError as error:
            what = f"{command[0]} cannot be started: {error.strerror or type(error).__name__}."
            remedy = "Free some memory and try again, or repeat the setup: python launch.py setup."
            raise RunError(Problem("export", what, remedy)) from error
        self._started[folder.id] = process
        who = ProcessIdentity.of(process.pid)
        try:
            write_json(folder.process_file, who.as_dict() | {"launched": time.time()})
            self._lease.take("export", record.run_name, who)
        except ForgeError:
            kill_tree(who)
            wait_ended(who, KILLED_S)
            folder.process_file.unlink(missing_ok=True)
            self._release(folder)
            raise

    def watch(self, folder: ExportFolder) -> None:
        """Remember what the exporter of an export has started: it may be killed from outside."""
        if who := process_of(folder):
            self._orphans.remember(folder.id, who)

    def end(self, folder: ExportFolder) -> None:
        """End the exporter of an export, with what it has started; the lease ends with it."""
        who = process_of(folder)
        if who is not None and who.alive:
            kill_tree(who)
            wait_ended(who, KILLED_S)
        self._release(folder)

    def clean(self, folder: ExportFolder) -> bool:
        """Remove what an export that is over has left beside its files; return whether it is done.

        Files of an export without a result were not tested, so they are removed as well.
        """
        who, state = process_of(folder), folder.state()
        if not state.is_over:
            return False
        if who is not None and who.alive:
            self.end(folder)
        others = [
            each.id
            for each in job_folders(self._home.exports, ExportFolder)
            if each.id != folder.id
        ]
        self._orphans.end(others)
        leftovers = [folder.staged, folder.work]
        if state in (JobState.STOPPED, JobState.LOST):
            leftovers += [folder.files, folder.not_usable]
        for path in leftovers:
            shutil.rmtree(path, ignore_errors=True)
        self._release(folder)
        return not any(path.exists() for path in leftovers)

    def close(self) -> None:
        """End the exporter of this server; its export is queued again for the next one."""
        for export_id, process in list(self._started.items()):
            who = ProcessIdentity.of(process.pid)
            _close_stdin(process)
            if not wait_ended(who, KILLED_S):
                kill_tree(who)
                wait_ended(who, KILLED_S)
                queue_again(ExportFolder(self._home.exports / export_id))
        self._started.clear()

    def _release(self, folder: ExportFolder) -> None:
        process = self._started.pop(folder.id, None)
        if process is not None:
            _close_stdin(process)
            CHILDREN.reap()


def _close_stdin(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
