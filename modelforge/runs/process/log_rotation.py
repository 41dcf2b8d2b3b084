"""Limit the size of a log: the beginning and the end are kept, the middle is removed."""

from __future__ import annotations

import contextlib
import traceback
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from modelforge.errors import RunError
from modelforge.runs.process.lock import exclusive
from modelforge.units import MIB

MAX_BYTES = 16 * MIB
HEAD_BYTES = MIB
TAIL_BYTES = 4 * MIB
CHUNK_BYTES = MIB
MAX_ERROR_BYTES = 20_000


def lock_path(log: Path) -> Path:
    """Return the lock file that servers hold while they trim a log."""
    return log.with_suffix(".lock")


def trim_log(
    log: Path, limit: int = MAX_BYTES, head: int = HEAD_BYTES, tail: int = TAIL_BYTES
) -> bool:
    """Remove the middle of a log of more than `limit` bytes; return whether it was trimmed.

    The worker keeps appending to the same file; what it writes during the trim may be lost. If
    another server is trimming the log, nothing is done.
    """
    try:
        if log.stat().st_size <= limit:
            return False
        with exclusive(lock_path(log), timeout_s=0.0), log.open("r+b") as file:
            return _trim(file, limit, head, tail)
    except (OSError, RunError):
        return False  # locked, or a disk error: the next call tries again


def log_error(log: Path, error: BaseException) -> None:
    """Append the time and the traceback of an error to a log of limited size."""
    time = datetime.now().astimezone().isoformat(timespec="seconds")
    text = "".join(traceback.format_exception(error))
    if len(text) > MAX_ERROR_BYTES:
        text = f"{text[: MAX_ERROR_BYTES // 2]}\n…\n{text[-MAX_ERROR_BYTES // 2 :]}"
    with contextlib.suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{time}\n{text}\n")
    trim_log(log)


def _trim(file: BinaryIO, limit: int, head: int, tail: int) -> bool:
    size = file.seek(0, 2)
    if size <= limit:
        return False
    source = size - tail
    head += _to_line_end(file, head)
    source += _to_line_end(file, source)
    target = head + _write(file, head, _notice(source - head))
    # Bytes that are appended meanwhile are moved as well.
    while chunk := _read(file, source):
        target += _write(file, target, chunk)
        source += len(chunk)
    file.truncate(target)
    return True


def _notice(removed: int) -> bytes:
    return f"… {removed:,} bytes were removed here because the log was too long …\n".encode()


def _to_line_end(file: BinaryIO, offset: int) -> int:
    """Return the number of bytes from `offset` to the next line; 0 if there is none nearby."""
    return _read(file, offset).find(b"\n") + 1


def _read(file: BinaryIO, offset: int) -> bytes:
    file.seek(offset)
    return file.read(CHUNK_BYTES)


def _write(file: BinaryIO, offset: int, data: bytes) -> int:
    file.seek(offset)
    file.write(data)
    file.flush()
    return len(data)
