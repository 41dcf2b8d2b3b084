"""Run a command under one moving line that says how long it takes and what it does."""

from __future__ import annotations

import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TextIO

QUIET = ("WARNING: Location ", "[notice]", "Looking in ")
INSTALLING = "Installing collected packages: "
LONGEST = 100
RAW_PROGRESS = re.compile(r"^Progress (\d+) of (\d+)$")
OUR_PROGRESS = re.compile(r"^PROGRESS (\d(?:\.\d+)?)\s*(.*)$")
TURNS = "|/-\\"
TICK_S = 0.2
HEARTBEAT_S = 20.0


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and the last lines it printed."""

    code: int
    lines: list[str]


def display_text(line: str) -> str | None:
    """Return what one line of output says to people, or None when it says nothing."""
    line = line.strip()
    if not line or line.startswith(QUIET):
        return None
    if raw := RAW_PROGRESS.match(line):
        done, total = int(raw[1]), int(raw[2])
        return f"{done * 100 // max(total, 1)}% of {total / 1e6:.0f} MB"
    if ours := OUR_PROGRESS.match(line):
        return f"{float(ours[1]) * 100:.0f}% {ours[2]}".strip()
    if line.startswith(INSTALLING):
        return f"Installing {line.count(',') + 1} packages"
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."


class StageLine:
    """One stage's line: rewritten in place on a terminal, a few plain lines anywhere else."""

    def __init__(self, title: str, out: TextIO | None = None) -> None:
        self.title = title
        self.out = out or sys.stdout
        self.moving = self.out.isatty()
        self.began = time.monotonic()
        self.said = self.began
        self.turn = 0
        if not self.moving:
            self._print(f"{title} ...")

    @property
    def elapsed(self) -> str:
        """How long it has taken, as people say it."""
        seconds = int(time.monotonic() - self.began)
        return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"

    def show(self, doing: str) -> None:
        """Say what is being done now."""
        if self.moving:
            self.turn += 1
            turning = TURNS[self.turn % len(TURNS)]
            self._rewrite(f"{self.title} {turning} {self.elapsed}  {doing}")
        elif time.monotonic() - self.said >= HEARTBEAT_S:
            self.said = time.monotonic()
            self._print(f"{self.title}: {self.elapsed}, {doing}")

    def end(self, how: str) -> None:
        """Close the line with how it went."""
        if self.moving:
            self._rewrite(f"{self.title}: {how} ({self.elapsed})")
            self._print("")
        else:
            self._print(f"{self.title}: {how} ({self.elapsed})")

    def _rewrite(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self.out.write("\r" + text[:width].ljust(width))
        self.out.flush()

    def _print(self, text: str) -> None:
        self.out.write(text + "\n")
        self.out.flush()


def run_watched(
    command: Sequence[str], line: StageLine, log: Path, *, env: dict[str, str], cwd: Path
) -> Outcome:
    """Run a command, show its last line as it works, and keep everything it prints in the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=env,
        cwd=cwd,
    )
    assert process.stdout
    printed: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_pump, args=(process.stdout, printed), daemon=True).start()
    with process:  # closes its output and waits for it, also when Ctrl+C ends us
        try:
            with log.open("a", encoding="utf-8") as file:
                file.write(f"\n$ {' '.join(command)}\n")
                lines = _follow(printed, line, file)
        except BaseException:
            process.terminate()
            raise
    return Outcome(process.returncode, lines)


def _pump(stream: IO[str], printed: queue.Queue[str | None]) -> None:
    for text in stream:
        printed.put(text)
    printed.put(None)


def _follow(printed: queue.Queue[str | None], line: StageLine, file: TextIO) -> list[str]:
    kept: deque[str] = deque(maxlen=400)
    doing = ""
    while True:
        line.show(doing)
        try:
            text = printed.get(timeout=TICK_S)
        except queue.Empty:
            continue
        if text is None:
            return list(kept)
        if said := display_text(text):
            doing = said
        if not RAW_PROGRESS.match(text.strip()):
            file.write(text)
            kept.append(text.rstrip())
