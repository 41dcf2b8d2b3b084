"""What a worker says, one JSON line an event: written whole, read by a byte cursor."""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from modelforge.runs.layout import disk_error

ENDINGS = ("finished", "stopped", "failed")
MILESTONES = ("started", *ENDINGS)
TAIL_BYTES = 65_536
_MILESTONE_WORDS = tuple(f'"{kind}"'.encode() for kind in MILESTONES)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing a worker said: its number from 1, Unix time, kind and data."""

    n: int
    t: float
    kind: str
    data: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the event as plain data, as it stands in the file."""
        return {"n": self.n, "t": self.t, "kind": self.kind, "data": self.data}


class EventWriter:
    """Appends events to a file, numbered on from what is there. Safe to use from several threads.

    A line goes out in one write, so that readers and a kill never see two lines mixed.
    Numbers that JSON does not know (nan, inf) are written as null.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = threading.Lock()
        self._n, self._torn = _where_to_continue(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        try:
            self._file = os.open(path, flags, 0o644)
        except OSError as error:
            raise disk_error(error, path) from error

    def write(self, kind: str, /, **data: Any) -> Event:
        """Write one event and return it; raises RunError when the disk does not take it."""
        with self._turn:
            event = Event(self._n + 1, time.time(), kind, _finite(data))
            line = (
                json.dumps(event.as_dict(), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
            )
            # A predecessor killed in mid-line left half of one; ours must not stick to it.
            whole = b"\n" + line if self._torn else line
            try:
                written = os.write(self._file, whole)
                self._torn = written != len(whole)
                if self._torn:
                    os.write(self._file, whole[written:])
                    self._torn = False
            except OSError as error:
                raise disk_error(error, self._path) from error
            self._n = event.n
            if kind in ENDINGS:
                with contextlib.suppress(OSError):
                    os.fsync(self._file)
            return event

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        with self._turn:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_events(path: Path, after: int = 0, most: int | None = None) -> tuple[list[Event], int]:
    """Return the events past byte `after`, and the byte to continue from.

    A line that is still being written is left for the next call; a line that is no event is
    passed over. With `most` no more than about so many bytes are read; one line is read whole.
    """
    after = max(0, after)
    try:
        with path.open("rb") as file:
            file.seek(after)
            fresh = file.read() if most is None else file.read(most) + file.readline()
    except FileNotFoundError:
        return [], after
    whole = fresh[: fresh.rfind(b"\n") + 1]
    return _events_in(whole), after + len(whole)


def tail_events(path: Path, limit: int = TAIL_BYTES) -> list[Event]:
    """Return the events in the last `limit` bytes, oldest first; cheap for long files."""
    return _events_in(_tail(path, limit))


def first_event(path: Path, at: int = 0) -> Event | None:
    """Return the first event from byte `at` on, or None while there is none."""
    try:
        with path.open("rb") as file:
            file.seek(at)
            # What a predecessor has left half is ended by an empty line.
            while (line := file.readline(TAIL_BYTES)) == b"\n":
                pass
    except OSError:
        return None
    return _parse(line) if line.endswith(b"\n") else None


def newest_milestone(path: Path, after: int = 0) -> str | None:
    """Return the newest of started, finished, stopped and failed, or None if nothing was said.

    Only events with a number above `after` count.
    """
    lines = _tail(path, TAIL_BYTES).splitlines()
    newest: Event | None = None
    for line in reversed(lines):
        # Most lines are steps; only those that may be a milestone are worth parsing.
        if newest is not None and not any(word in line for word in _MILESTONE_WORDS):
            continue
        event = _parse(line)
        newest = newest or event
        if event is not None and event.kind in MILESTONES:
            return event.kind if event.n > after else None
    # The beginning of a long file lies outside the tail, and whoever speaks has started.
    number = newest.n if newest is not None else last_number(path)
    return "started" if number > after else None


def size_of(path: Path) -> int:
    """Return how many bytes of events there are, or -1 while there is no file."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def last_number(path: Path) -> int:
    """Return the number of the newest event, or 0 when there is none."""
    return _where_to_continue(path)[0]


def _where_to_continue(path: Path) -> tuple[int, bool]:
    """Return the last number in the file, and whether the file ends in mid-line."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            torn = file.read() not in (b"", b"\n")
    except FileNotFoundError:
        return 0, False
    except OSError as error:
        raise disk_error(error, path) from error
    recent = tail_events(path) or read_events(path)[0]
    return max((event.n for event in recent), default=0), torn


def _tail(path: Path, limit: int) -> bytes:
    """Return the whole lines in the last `limit` bytes; the first may have lost its beginning."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            tail = file.read()
    except OSError:
        return b""
    return tail[: tail.rfind(b"\n") + 1]


def _events_in(lines: bytes) -> list[Event]:
    found = (_parse(line) for line in lines.splitlines())
    return [event for event in found if event is not None]


def _parse(line: bytes) -> Event | None:
    try:
        said = orjson.loads(line)
    except ValueError:
        return None
    if not isinstance(said, dict):
        return None
    n, t, kind, data = said.get("n"), said.get("t"), said.get("kind"), said.get("data")
    if (
        isinstance(n, int)
        and isinstance(t, (int, float))
        and isinstance(kind, str)
        and isinstance(data, dict)
    ):
        return Event(n, t, kind, data)
    return None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value
