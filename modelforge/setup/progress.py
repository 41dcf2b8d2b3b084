"""Run a command and show its elapsed time and activity in one line."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TextIO

IGNORED = ("WARNING: Location ", "[notice]", "Looking in ")
INSTALLING = "Installing collected packages: "
MAX_LENGTH = 100
PIP_PROGRESS = re.compile(r"^Progress (\d+) of (\d+)$")
OUR_PROGRESS = re.compile(r"^PROGRESS (\d(?:\.\d+)?)\s*(.*)$")
SPINNER = "|/-\\"
TICK_S = 0.2
HEARTBEAT_S = 20.0


def display_text(line: str) -> str | None:
    """Return a line of output as shown to the user, or None to ignore it."""
    line = line.strip()
    if not line or line.startswith(IGNORED):
        return None
    if raw := PIP_PROGRESS.match(line):
        done, total = int(raw[1]), int(raw[2])
        return f"{done * 100 // max(total, 1)}% of {total / 1e6:.0f} MB"
    if ours := OUR_PROGRESS.match(line):
        return f"{float(ours[1]) * 100:.0f}% {ours[2]}".strip()
    if line.startswith(INSTALLING):
        return f"Installing {line.count(',') + 1} packages"
    return line if len(line) <= MAX_LENGTH else line[: MAX_LENGTH - 3] + "..."


class StageLine:
    """The progress line of a stage: rewritten in place on a terminal, otherwise plain lines."""

    def __init__(self, title: str, out: TextIO | None = None) -> None:
        self.title = title
        self.out = out or sys.stdout
        self.is_terminal = self.out.isatty()
        self.began = time.monotonic()
        self.last_printed = self.began
        self.frame = 0
        if not self.is_terminal:
            self._print(f"{title} ...")

    @property
    def elapsed(self) -> str:
        """The elapsed time as text."""
        seconds = int(time.monotonic() - self.began)
        return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"

    def show(self, doing: str) -> None:
        """Show the current activity."""
        if self.is_terminal:
            self.frame += 1
            spinner = SPINNER[self.frame % len(SPINNER)]
            self._rewrite(f"{self.title} {spinner} {self.elapsed}  {doing}")
        elif time.monotonic() - self.last_printed >= HEARTBEAT_S:
            self.last_printed = time.monotonic()
            self._print(f"{self.title}: {self.elapsed}, {doing}")

    def end(self, result: str) -> None:
        """End the line with the result."""
        if self.is_terminal:
            self._rewrite(f"{self.title}: {result} ({self.elapsed})")
            self._print("")
        else:
            self._print(f"{self.title}: {result} ({self.elapsed})")

    def _rewrite(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self.out.write("\r" + text[:width].ljust(width))
        self.out.flush()

    def _print(self, text: str) -> None:
        self.out.write(text + "\n")
        self.out.flush()


def run_watched(
    command: Sequence[str],
    line: StageLine,
    log: Path,
    *,
    env: dict[str, str],
    cwd: Path,
    limit_s: float | None = None,
) -> tuple[int, list[str]]:
    """Run a command, show its last line of output, and append all output to the log.

    Returns:
        Its exit code and the last lines it printed.

    Raises:
        TimeoutError: After `limit_s` seconds; it is killed with the processes that it has started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # A group of its own can be killed as a whole.
    is_group = limit_s is not None and os.name == "posix"
    process = _start(command, env, cwd, is_group=is_group)
    assert process.stdout
    output: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(process.stdout, output), daemon=True).start()
    with process:  # closes its output and waits for it, also after Ctrl+C
        try:
            with log.open("a", encoding="utf-8") as file:
                file.write(f"\n$ {' '.join(command)}\n")
                lines = _follow(output, line, file, limit_s)
        except TimeoutError:
            _kill(process, is_group=is_group)
            raise
        except BaseException:
            process.terminate()
            raise
    return process.returncode, lines


def _start(
    command: Sequence[str], env: dict[str, str], cwd: Path, *, is_group: bool
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=env,
        cwd=cwd,
        start_new_session=is_group,
    )


def _kill(process: subprocess.Popen[str], *, is_group: bool) -> None:
    """End a process and its children."""
    if is_group:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return
    if os.name == "nt":
        tree = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(tree, capture_output=True, check=False)
    process.kill()


def _read(stream: IO[str], output: queue.Queue[str | None]) -> None:
    for text in stream:
        output.put(text)
    output.put(None)


def _follow(
    output: queue.Queue[str | None], line: StageLine, file: TextIO, limit_s: float | None
) -> list[str]:
    kept: deque[str] = deque(maxlen=400)
    began, doing = time.monotonic(), ""
    while True:
        if limit_s is not None and time.monotonic() - began > limit_s:
            raise TimeoutError
        line.show(doing)
        try:
            text = output.get(timeout=TICK_S)
        except queue.Empty:
            continue
        if text is None:
            return list(kept)
        if shown := display_text(text):
            doing = shown
        if not PIP_PROGRESS.match(text.strip()):
            file.write(text)
            kept.append(text.rstrip())
