"""Which process it is, whether it lives, and how it is ended with all its children."""

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
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from modelforge.paths import Home

# The kernel derives the time of boot from a clock that may be set; births move along with it.
BIRTH_TOLERANCE_S = 2.0
LOOK_EVERY_S = 0.05
LAST_THREAD_S = 1.0

_started: list[tuple[subprocess.Popen[bytes], ProcessIdentity]] = []
_ended: dict[tuple[int, float], int] = {}
_starting = threading.Lock()


@dataclass(frozen=True)
class ProcessIdentity:
    """A process for certain: a process id alone may be reused, with its birth time it is unique.

    On Linux `boot_id` and `start_ticks` say the birth exactly, whatever happens to the clock.
    """

    pid: int
    birth: float
    boot_id: str | None = None
    start_ticks: int | None = None

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Return the identity of a process; one that is gone gets a birth that nothing matches."""
        try:
            birth = psutil.Process(pid).create_time()
        except psutil.Error:
            return cls(pid, 0.0)
        return cls(pid, birth, _boot_id(), _start_ticks(pid))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ProcessIdentity | None:
        """Return the identity in a record, or None when the record names no process."""
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
        """The living process with this identity, or None. A zombie does not live."""
        if self.pid < 2 or (self.boot_id and self.boot_id != _boot_id()):
            return None
        try:
            found = psutil.Process(self.pid)
            if not self._born_like(found) or found.status() in _DEAD:
                return None
        except psutil.Error:
            return None
        return found

    @property
    def alive(self) -> bool:
        """Whether this very process lives."""
        return self.process is not None

    def _born_like(self, found: psutil.Process) -> bool:
        if self.start_ticks is not None:
            return _start_ticks(self.pid) == self.start_ticks
        return abs(found.create_time() - self.birth) <= BIRTH_TOLERANCE_S


_DEAD = {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}


def own_session() -> dict[str, Any]:
    """Return the Popen arguments that let a child outlive this process and its terminal."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return {"creationflags": flags}
    return {"start_new_session": True}


def environment(home: Home) -> dict[str, str]:
    """Return a child's environment: ours (tokens travel only here), unbuffered, no telemetry."""
    return {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        # Threads of libgomp wait for each other spinning, 300,000 times round. Beside another busy
        # process the one that is waited for gets no turn: training fell from 85 to 22 tokens/s.
        "GOMP_SPINCOUNT": "2000",
        # What oneDNN makes for each shape of a product in 16 bits stays, a thousand of them: a run
        # on batches of ever other lengths grew by 0.7 GiB. So many are enough for the same speed.
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
        "LRU_CACHE_CAPACITY": "128",
        **os.environ,
        "MODELFORGE_HOME": str(home.root),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
    }


def launch(
    command: Sequence[str], log: Path, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start a process of its own session whose output goes to `log`; raises OSError."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            **own_session(),
        )
    keep(process)
    return process


def keep(process: subprocess.Popen[bytes]) -> None:
    """Remember a child that goes its own way, so that `reap` can take it off the process table."""
    who = ProcessIdentity.of(process.pid)
    with _starting:
        _started.append((process, who))


def reap() -> None:
    """Collect the children that have ended; without it they would stay as zombies."""
    with _starting:
        for process, who in _started:
            if (code := process.poll()) is not None:
                _ended[_key(who)] = code
        _started[:] = [(process, who) for process, who in _started if process.returncode is None]


def ended_with(who: ProcessIdentity) -> int | None:
    """Return the exit code of a child of ours that is gone; another server's is not known."""
    # A process is no more as soon as its first thread is gone, and can be asked when its last is.
    for process in [process for process, ours in _started if _key(ours) == _key(who)]:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LAST_THREAD_S)
    reap()
    return _ended.get(_key(who))


def _key(who: ProcessIdentity) -> tuple[int, float]:
    # Two looks at one birth may differ: it is counted from the time of boot, which is rounded.
    return who.pid, who.birth if who.start_ticks is None else who.start_ticks


def has_restarted_since(who: ProcessIdentity) -> bool:
    """Say whether the computer was started anew after the process was."""
    now = _boot_id()
    if who.boot_id and now:
        return who.boot_id != now
    try:
        return psutil.boot_time() > who.birth + BIRTH_TOLERANCE_S
    except (OSError, psutil.Error):
        return False


@atexit.register
def _let_go() -> None:
    # Workers outlive us on purpose; Popen would complain of each when it is torn down.
    for process, _who in _started:
        if process.poll() is None:
            process.returncode = 0


def family(who: ProcessIdentity) -> list[psutil.Process]:
    """Return the process, its descendants and its group; nothing when the identity is another."""
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


def terminate(who: ProcessIdentity) -> list[psutil.Process]:
    """Ask the family to end; return who was asked."""
    return _signal(who, kill=False)


def kill(who: ProcessIdentity) -> list[psutil.Process]:
    """End the family at once; return who was ended."""
    return _signal(who, kill=True)


def kill_each(members: Iterable[psutil.Process]) -> None:
    """End those that still live. psutil refuses a process id that was reused meanwhile."""
    for member in members:
        with contextlib.suppress(psutil.Error):
            member.kill()


def wait_gone(who: ProcessIdentity, limit_s: float) -> bool:
    """Wait until the process has ended; return whether it did within the limit."""
    deadline = time.monotonic() + limit_s
    while True:
        reap()
        if not who.alive:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_EVERY_S)


def _signal(who: ProcessIdentity, *, kill: bool) -> list[psutil.Process]:
    members = family(who)
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
    """Return the clock ticks from boot to the process's birth; Linux only."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        return int(stat.rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
