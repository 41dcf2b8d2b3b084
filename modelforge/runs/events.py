"""The event file of a run: one writer appends lines, readers continue from a byte offset."""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from modelforge.paths import open_regular
from modelforge.runs import event_types
from modelforge.runs.atomic_files import disk_error
from modelforge.runs.event_fields import Event
from modelforge.runs.event_types import ENDINGS, StartedEvent

MILESTONES = (StartedEvent.kind, *ENDINGS)
TAIL_BYTES = 65_536
READ_BYTES = 2**22
_QUOTED_MILESTONES = tuple(f'"{kind}"'.encode() for kind in MILESTONES)


class EventRecord(NamedTuple):
    """One line of the file: number from 1, Unix time, kind and data, with current names."""

    n: int
    t: float
    kind: str
    data: dict[str, Any]

    @property
    def event(self) -> Event:
        """The typed event."""
        return event_types.parse(self.kind, self.data)

    def as_dict(self) -> dict[str, Any]:
        """Return the record as it is in the file."""
        return {"n": self.n, "t": self.t, "kind": self.kind, "data": self.data}


class EventWriter:
    """Appends events to a file and numbers them. Safe to use from several threads.

    Each line is written by a single call, so that readers and a killed process never leave two
    lines mixed. NaN and infinite values become null.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._n, self._is_torn = _end_of(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        try:
            self._file = os.open(path, flags, 0o644)
        except OSError as error:
            raise disk_error(error, path) from error

    def write(self, event: Event) -> EventRecord:
        """Append an event and return its record; raises RunError when it cannot be written."""
        with self._lock:
            record = EventRecord(self._n + 1, time.time(), event.kind, _finite(event.as_data()))
            text = json.dumps(record.as_dict(), ensure_ascii=False)
            line = text.encode("utf-8", "replace") + b"\n"
            # A killed predecessor may have left half a line; ours must not be joined to it.
            line = b"\n" + line if self._is_torn else line
            try:
                written = os.write(self._file, line)
                self._is_torn = written != len(line)
                if self._is_torn:
                    os.write(self._file, line[written:])
                    self._is_torn = False
            except OSError as error:
                raise disk_error(error, self._path) from error
            self._n = record.n
            if record.kind in ENDINGS:
                with contextlib.suppress(OSError):
                    os.fsync(self._file)
            return record

    def catch_up(self) -> None:
        """Continue the numbers after events that another process has appended."""
        with self._lock:
            self._n, self._is_torn = _end_of(self._path)

    def close(self) -> None:
        """Close the file. Closing it again has no effect."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def read_events(
    path: Path, after: int = 0, limit: int | None = None
) -> tuple[list[EventRecord], int]:
    """Return the records after byte `after`, and the byte to continue from.

    An incomplete last line is left for the next call; invalid lines are skipped. With `limit`,
    about that many bytes are read, rounded up to a whole line.
    """
    lines, end = read_lines(path, after, limit)
    return list(parse_lines(lines)), end


def iter_events(path: Path) -> Iterator[EventRecord]:
    """Yield all records of a file, reading a few megabytes at a time."""
    for lines, _end in read_chunks(path):
        yield from parse_lines(lines)


def read_chunks(path: Path, after: int = 0) -> Iterator[tuple[bytes, int]]:
    """Yield all lines after byte `after`, a few megabytes at a time, and the byte they end at."""
    is_at_end = False
    while not is_at_end:
        lines, end = read_lines(path, after, READ_BYTES)
        yield lines, end
        is_at_end, after = end - after < READ_BYTES, end


def read_lines(path: Path, after: int, limit: int | None) -> tuple[bytes, int]:
    """Return the complete lines after byte `after`, and the byte to continue from."""
    after = max(0, after)
    try:
        with open_regular(path) as file:
            file.seek(after)
            data = file.read() if limit is None else file.read(limit) + file.readline()
    except OSError:  # also something that is not a file
        return b"", after
    lines = data[: data.rfind(b"\n") + 1]
    return lines, after + len(lines)


def parse_lines(lines: bytes) -> Iterator[EventRecord]:
    """Yield the records in these lines; invalid lines are skipped."""
    for line in lines.splitlines():
        record = _parse(line)
        if record is not None:
            yield record


def tail_events(path: Path, limit: int = TAIL_BYTES) -> list[EventRecord]:
    """Return the records in the last `limit` bytes, oldest first."""
    return list(parse_lines(_tail(path, limit)))


def first_event(path: Path, after: int = 0) -> EventRecord | None:
    """Return the first record after byte `after`, or None."""
    try:
        with open_regular(path) as file:
            file.seek(after)
            # The incomplete line of a killed predecessor is followed by an empty one.
            while (line := file.readline(TAIL_BYTES)) == b"\n":
                pass
    except OSError:
        return None
    return _parse(line) if line.endswith(b"\n") else None


def newest_milestone(path: Path, after: int = 0) -> str | None:
    """Return the kind of the newest start or ending whose number is above `after`, or None."""
    newest: EventRecord | None = None
    for line in reversed(_tail(path, TAIL_BYTES).splitlines()):
        # Most lines are steps: parse only those that may be a milestone.
        if newest is not None and not any(kind in line for kind in _QUOTED_MILESTONES):
            continue
        record = _parse(line)
        newest = newest or record
        if record is not None and record.kind in MILESTONES:
            return record.kind if record.n > after else None
    # The start of a long run is before the tail; any event implies that it started.
    number = newest.n if newest is not None else last_number(path)
    return StartedEvent.kind if number > after else None


def size_of(path: Path) -> int:
    """Return the size of the file in bytes, or -1 when it does not exist."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def last_number(path: Path) -> int:
    """Return the number of the newest event, or 0."""
    return _end_of(path)[0]


def _end_of(path: Path) -> tuple[int, bool]:
    """Return the number of the newest event, and whether the file ends with an incomplete line."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            is_torn = file.read() not in (b"", b"\n")
    except FileNotFoundError:
        return 0, False
    except OSError as error:
        raise disk_error(error, path) from error
    records = tail_events(path) or read_events(path)[0]
    return max((record.n for record in records), default=0), is_torn


def _tail(path: Path, limit: int) -> bytes:
    """Return the complete lines in the last `limit` bytes; the first may lack its beginning."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            tail = file.read()
    except OSError:
        return b""
    return tail[: tail.rfind(b"\n") + 1]


def _parse(line: bytes) -> EventRecord | None:
    try:
        value = orjson.loads(line)
        n, t, kind, data = value["n"], value["t"], value["kind"], value["data"]
    except (ValueError, KeyError, TypeError):
        return None
    # JSON has no subclasses of these types.
    if type(n) is not int or type(kind) is not str or type(data) is not dict:
        return None
    if type(t) is not float and type(t) is not int:
        return None
    if kind in event_types.ALIASED_KINDS:
        kind, data = event_types.with_current_names(kind, data)
    return EventRecord(n, t, kind, data)


def _finite(value: Any) -> Any:
    """Return the value with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
