"""Identify processes beyond their pid, start and end them with all their children."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from modelforge.paths import Home

# The kernel derives creation times from the boot time, which moves when the clock is set.
BIRTH_TOLERANCE_S = 2.0
POLL_S = 0.05
LAST_THREAD_TIMEOUT_S = 1.0
PASSWORD_VARIABLE = "MODELFORGE_PASSWORD"


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, identified by its pid and creation time because pids are reused.

    On Linux `boot_id` and `start_ticks` give the creation time independently of the clock.
    """

    pid: int
    birth: float
    boot_id: str | None = None
    start_ticks: int | None = None

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Return the identity of a process; that of an ended process matches no process."""
        try:
            birth = psutil.Process(pid).create_time()
        except psutil.Error:
            return cls(pid, 0.0)
        return cls(pid, birth, _boot_id(), _start_ticks(pid))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ProcessIdentity | None:
        """Return the identity in a record, or None if it has none."""
        pid, birth = data.get("pid"), data.get("birth")
        if not isinstance(pid, int) or not isinstance(birth, (int, float)):
            return None
        boot, ticks = data.get("boot_id"), data.get("start_ticks")
        return cls(
            pid,
            float(birth),
            boot if isinstance(boot, str) else None,
            ticks if isinstance(ticks, int) else None,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the identity as plain data."""
        return asdict(self)

    @property
    def process(self) -> psutil.Process | None:
        """The running process with this identity, or None. A zombie is not running."""
        if self.pid < 2 or (self.boot_id and self.boot_id != _boot_id()):
            return None
        try:
            process = psutil.Process(self.pid)
            if not self._matches(process) or process.status() in _ENDED_STATUS:
                return None
        except psutil.Error:
            return None
        return process

    @property
    def alive(self) -> bool:
        """Whether this process is running."""
        return self.process is not None

    def _matches(self, process: psutil.Process) -> bool:
        if self.start_ticks is not None:
            return _start_ticks(self.pid) == self.start_ticks
        return abs(process.create_time() - self.birth) <= BIRTH_TOLERANCE_S


_ENDED_STATUS = {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}


class ChildProcesses:
    """The child processes of this server: collected when they end, left running at its exit."""

    def __init__(self) -> None:
        self._running: list[tuple[subprocess.Popen[bytes], ProcessIdentity]] = []
        self._exit_codes: dict[tuple[int, float], int] = {}
        self._lock = threading.Lock()

    def add(self, process: subprocess.Popen[bytes]) -> None:
        """Register a child that runs on its own."""
        who = ProcessIdentity.of(process.pid)
        with self._lock:
            self._running.append((process, who))

    def reap(self) -> None:
        """Collect the children that have ended, which would stay as zombies otherwise."""
        with self._lock:
            running = []
            for process, who in self._running:
                if (code := process.poll()) is None:
                    running.append((process, who))
                else:
                    self._exit_codes[_key(who)] = code
            self._running = running

    def exit_code(self, who: ProcessIdentity) -> int | None:
        """Return the exit code of an ended child; None for processes of other servers."""
        # A process counts as ended when its main thread ends, but can be collected only after
        # the last one.
        for process, child in list(self._running):
            if _key(child) == _key(who):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LAST_THREAD_TIMEOUT_S)
        self.reap()
        return self._exit_codes.get(_key(who))

    def leave(self) -> None:
        """Leave the running children alone at exit, without a ResourceWarning for each."""
        for process, _who in self._running:
            if process.poll() is None:
                process.returncode = 0


CHILDREN = ChildProcesses()
atexit.register(CHILDREN.leave)


def new_session_options() -> dict[str, Any]:
    """Return the Popen arguments that let a child outlive this process and its terminal."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return {"creationflags": flags}
    return {"start_new_session": True}


def child_environment(home: Home) -> dict[str, str]:
    """Return the environment of a child: ours (with tokens), unbuffered, without telemetry.

    The password of the server is left out: models, trackers and their libraries need none.
    """
    inherited = {name: value for name, value in os.environ.items() if name != PASSWORD_VARIABLE}
    return {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        # libgomp threads spin 300,000 times while they wait. Beside another busy process this
        # keeps the awaited thread from running: training fell from 85 to 22 tokens/s.
        "GOMP_SPINCOUNT": "2000",
        # oneDNN caches a thousand primitives for bf16 products, one per shape: with batches of
        # varying length a run grew by 0.7 GiB. 128 give the same speed.
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
        "LRU_CACHE_CAPACITY": "128",
        **inherited,
        "MODELFORGE_HOME": str(home.root),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
    }


def start_process(
    command: Sequence[str],
    log: Path,
    home: Home,
    *,
    variables: Mapping[str, str] | None = None,
    tied: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a process in its own session with its output in `log`; raises OSError.

    The stdin of a `tied` process ends with this process, or when the caller closes it.
    """
    with log.open("ab") as file:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE if tied else subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=child_environment(home) | dict(variables or {}),
            **new_session_options(),
        )
    CHILDREN.add(process)
    return process


def find_by_argument(argument: str) -> ProcessIdentity | None:
    """Return a running process that has `argument` as its last one, or None."""
    for process in psutil.process_iter(["cmdline", "status"]):
        command = process.info["cmdline"]
        if command and command[-1] == argument and process.info["status"] not in _ENDED_STATUS:
            return ProcessIdentity.of(process.pid)
    return None


def rebooted_since(who: ProcessIdentity) -> bool:
    """Return whether the computer was restarted after the start of the process."""
    now = _boot_id()
    if who.boot_id and now:
        return who.boot_id != now
    try:
        return psutil.boot_time() > who.birth + BIRTH_TOLERANCE_S
    except (OSError, psutil.Error):
        return False


def process_tree(who: ProcessIdentity) -> list[psutil.Process]:
    """Return the process, its descendants and its process group; empty if it has ended."""
    leader = who.process
    if leader is None:
        return []
    members = {leader.pid: leader}
    with contextlib.suppress(psutil.Error):
        members |= {child.pid: child for child in leader.children(recursive=True)}
    if _leads_group(who.pid):
        for process in psutil.process_iter():
            if _group_of(process.pid) == who.pid:
                members.setdefault(process.pid, process)
    return list(members.values())


def terminate_tree(who: ProcessIdentity) -> list[psutil.Process]:
    """Send SIGTERM to the process tree; return its members."""
    return _signal(who, kill=False)


def kill_tree(who: ProcessIdentity) -> list[psutil.Process]:
    """Kill the process tree; return its members."""
    return _signal(who, kill=True)


def kill_processes(members: Iterable[psutil.Process]) -> None:
    """Kill processes that still run. psutil refuses a pid that was reused meanwhile."""
    for member in members:
        with contextlib.suppress(psutil.Error):
            member.kill()


def wait_ended(who: ProcessIdentity, timeout_s: float) -> bool:
    """Wait until the process has ended; return whether it did within the timeout."""
    deadline = time.monotonic() + timeout_s
    while True:
        CHILDREN.reap()
        if not who.alive:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)


def _signal(who: ProcessIdentity, *, kill: bool) -> list[psutil.Process]:
    members = process_tree(who)
    grouped: set[int] = set()
    if members and sys.platform != "win32" and _leads_group(who.pid):
        grouped = {member.pid for member in members if _group_of(member.pid) == who.pid}
        with contextlib.suppress(OSError):
            os.killpg(who.pid, signal.SIGKILL if kill else signal.SIGTERM)
    for member in members:
        if member.pid not in grouped:
            with contextlib.suppress(psutil.Error):
                member.kill() if kill else member.terminate()
    return members


def _key(who: ProcessIdentity) -> tuple[int, float]:
    # Creation times read twice may differ, because they are derived from the rounded boot time.
    return who.pid, who.birth if who.start_ticks is None else who.start_ticks


def _leads_group(pid: int) -> bool:
    return _group_of(pid) == pid and _group_of(0) != pid


def _group_of(pid: int) -> int | None:
    if sys.platform == "win32":
        return None
    try:
        return os.getpgid(pid)
    except OSError:
        return None


@functools.cache
def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() or None
    except OSError:
        return None


def _start_ticks(pid: int) -> int | None:
    """Return the creation time in clock ticks since boot; Linux only."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        return int(stat.rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
