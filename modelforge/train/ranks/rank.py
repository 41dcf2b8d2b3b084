"""A process of a run on several GPUs: its number, and what it does together with the others."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path
from typing import Protocol

import psutil

from modelforge.runs.layout import RunFolder
from modelforge.train.stop import Stop, StopMode

PARENT_POLL_S = 1.0
# What a collective operation raises where another process has ended.
_PEER_LOST = re.compile(
    r"connection (closed|reset) by peer|connection refused|broken pipe|gloo|nccl", re.I
)


def rank_number() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def event_file(run: RunFolder, rank: int) -> Path:
    """Return the event file of a process: that of the run for the first one."""
    return run.ranks / f"rank-{rank}.jsonl" if rank else run.events


def end_with_launcher() -> None:
    """End this process together with the one that started it, however that ends."""
    threading.Thread(
        target=_watch, args=[psutil.Process(os.getppid())], name="launcher", daemon=True
    ).start()


def _watch(launcher: psutil.Process) -> None:
    while launcher.is_running() and launcher.status() != psutil.STATUS_ZOMBIE:
        time.sleep(PARENT_POLL_S)
    os._exit(1)


def is_lost_peer(error: BaseException) -> bool:
    """Return whether an error says that another process has ended, which is not its cause."""
    return isinstance(error, RuntimeError) and bool(_PEER_LOST.search(str(error)))


class Group(Protocol):
    """The processes of a run, which agree on a stop."""

    def agree(self, mode: StopMode | None) -> StopMode | None:
        """Return the strongest stop request of all processes; all must call it together."""


class RankStop(Stop):
    """A stop request on which all processes of a run agree, at the same batch.

    `mode` is what they agreed on last.
    """

    group: Group | None = None
    _agreed: StopMode | None = None

    @property
    def mode(self) -> StopMode | None:
        """The request that all processes know; before they have joined, that of this one."""
        return super().mode if self.group is None else self._agreed

    def agree(self) -> None:
        """Agree with the other processes; all must call it together."""
        if self.group is not None and self._agreed != "discard":
            self._agreed = self.group.agree(super().mode)
