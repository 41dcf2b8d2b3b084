"""A log that grows without end is kept short: its beginning and its end stay, the middle goes."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from modelforge.errors import RunError
from modelforge.runs.process.lock import exclusive
from modelforge.units import MIB

MAX_BYTES = 2**24
HEAD_BYTES = MIB
TAIL_BYTES = 2**22
PIECE_BYTES = MIB


def lock_path(log: Path) -> Path:
    """Return the lock file that servers hold while they trim a log."""
    return log.with_suffix(".lock")


def trim_log(
    log: Path, most: int = MAX_BYTES, head: int = HEAD_BYTES, tail: int = TAIL_BYTES
) -> bool:
    """Cut the middle out of a log of more than `most` bytes; return whether anything was cut.

    The file stays the one that the worker appends to. What is written in the instant before the
    cut may be lost with the middle. Another server that is at it already is left to it.
    """
    try:
        if log.stat().st_size <= most:
            return False
        with exclusive(lock_path(log), timeout_s=0.0), log.open("r+b") as file:
            return _cut(file, most, head, tail)
    except (OSError, RunError):
        return False  # in use, or the disk does not take it: the next time, then


def _cut(file: BinaryIO, most: int, head: int, tail: int) -> bool:
    size = file.seek(0, 2)
    if size <= most:
        return False
    source = size - tail
    kept_head = head + _to_line_end(file, head)
    source += _to_line_end(file, source)
    target = kept_head + _write(file, kept_head, _mark(source - kept_head))
    # What comes in meanwhile is taken along until nothing more comes.
    while piece := _read(file, source):
        target += _write(file, target, piece)
        source += len(piece)
    file.truncate(target)
    return True


def _mark(left_out: int) -> bytes:
    return f"… {left_out:,} bytes were left out here: the log had grown too long …\n".encode()


def _to_line_end(file: BinaryIO, at: int) -> int:
    """Return how many bytes there are from `at` to the next line; 0 where none is near."""
    piece = _read(file, at)
    return piece.find(b"\n") + 1


def _read(file: BinaryIO, at: int) -> bytes:
    file.seek(at)
    return file.read(PIECE_BYTES)


def _write(file: BinaryIO, at: int, what: bytes) -> int:
    file.seek(at)
    file.write(what)
    file.flush()
    return len(what)
