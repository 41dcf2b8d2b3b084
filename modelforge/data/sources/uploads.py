"""Save uploaded data files: safe names, a size limit, and no partial files."""

from __future__ import annotations

import errno
import os
import re
import secrets
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

from modelforge.data.formats.sniff import FORMAT_NAMES, SUFFIXES
from modelforge.errors import DataError, Problem, RunError
from modelforge.paths import Home
from modelforge.units import GIB, human_bytes

UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\.|$)", re.IGNORECASE)
_MAX_STEM_BYTES = 120
# The largest data file that can be sent to the server.
MAX_UPLOAD_BYTES = 2 * GIB


def save_upload(home: Home, filename: str, chunks: Iterable[bytes], limit_bytes: int) -> Path:
    """Write `chunks` to the home's uploads and return the file, under a safe form of its name.

    The file appears when it is complete.

    Raises:
        DataError: the format is not supported, or the file is empty or too large.
        RunError: it cannot be written.
    """
    name = safe_name(filename)
    staged = home.uploads / f".staged-{secrets.token_hex(8)}"
    try:
        home.uploads.mkdir(parents=True, exist_ok=True)
        with staged.open("xb") as file:
            _write_chunks(file, chunks, name, limit_bytes)
        return _move_into(home.uploads, staged, name)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        is_full = error.errno == errno.ENOSPC
        remedy = "Free disk space." if is_full else "Check the permissions of the home folder."
        problem = Problem("uploads", f"{name} cannot be saved: {reason}.", remedy)
        raise RunError(problem) from error
    finally:
        with suppress(OSError):
            staged.unlink(missing_ok=True)


def _write_chunks(file: BinaryIO, chunks: Iterable[bytes], name: str, limit_bytes: int) -> None:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limit_bytes:
            limit = human_bytes(limit_bytes)
            what = f"{name} is larger than {limit}, the maximum for an upload."
            remedy = "Put it on this computer and give its path instead."
            raise DataError(Problem("dataset", what, remedy))
        file.write(chunk)
    if size == 0:
        remedy = "Use a file with at least one row."
        raise DataError(Problem("dataset", f"{name} is empty.", remedy))
    file.flush()
    os.fsync(file.fileno())


def safe_name(filename: str) -> str:
    """Return a file name without folders, control characters and names reserved by Windows."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", filename))[-1]
    visible = "".join(letter for letter in last if unicodedata.category(letter)[0] != "C")
    stem, dot, suffix = UNSAFE.sub("_", visible).rstrip(" .").rpartition(".")
    suffix = suffix.lower()
    if not dot or f".{suffix}" not in SUFFIXES:
        what = f"{visible[:80] or 'The file'} is not {FORMAT_NAMES}."
        raise DataError(Problem("dataset", what, f"Its name must end in {', '.join(SUFFIXES)}."))
    stem = stem.strip(" .").encode()[:_MAX_STEM_BYTES].decode(errors="ignore").strip(" .") or "data"
    if _RESERVED.match(stem):
        stem = f"_{stem}"
    return f"{stem}.{suffix}"


def list_uploads(home: Home) -> list[Path]:
    """Return the uploaded files."""
    return [
        path for path in home.uploads.glob("[!.]*") if path.suffix in SUFFIXES and path.is_file()
    ]


def _move_into(folder: Path, staged: Path, name: str) -> Path:
    for candidate in _numbered_names(name):
        target = folder / candidate
        try:
            # Reserves the name, so that two simultaneous uploads cannot both use it.
            target.open("xb").close()
        except FileExistsError:
            continue
        try:
            staged.replace(target)
        except OSError:
            target.unlink(missing_ok=True)
            raise
        return target
    raise AssertionError("the names are endless")


def _numbered_names(name: str) -> Iterator[str]:
    yield name
    stem, _, suffix = name.rpartition(".")
    for number in count(2):
        yield f"{stem}-{number}.{suffix}"
