"""Files that come through the browser or REST: safe names, a size limit, whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from modelforge.data.formats.sniff import FORMAT_NAMES, SUFFIXES
from modelforge.errors import DataError, Problem, RunError
from modelforge.paths import Home
from modelforge.units import GIB, human_bytes

UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\.|$)", re.IGNORECASE)
_LONGEST_NAME = 120
# The largest data file that may be sent to the server.
MAX_UPLOAD_BYTES = 2 * GIB


def save_upload(home: Home, filename: str, chunks: Iterable[bytes], limit_bytes: int) -> Path:
    """Write `chunks` into the home's uploads and return the file, named as near as is safe.

    The file appears under its name once it is whole. Raises DataError for a kind of file that
    is not read here, an empty one and one beyond the limit; RunError when the disk refuses.
    """
    name = safe_name(filename)
    staged = home.uploads / f".staged-{secrets.token_hex(8)}"
    try:
        home.uploads.mkdir(parents=True, exist_ok=True)
        with staged.open("xb") as file:
            size = 0
            for chunk in chunks:
                size += len(chunk)
                if size > limit_bytes:
                    raise _too_large(name, limit_bytes)
                file.write(chunk)
            if size == 0:
                remedy = "Give a file with at least one row."
                raise DataError(Problem("dataset", f"{name} is empty.", remedy))
            file.flush()
            os.fsync(file.fileno())
        return _into_place(staged, home.uploads, name)
    except OSError as error:
        raise _refused(name, error) from error
    finally:
        with suppress(OSError):
            staged.unlink(missing_ok=True)


def safe_name(filename: str) -> str:
    """Return a file name without folders, control characters or names that Windows reserves."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", filename))[-1]
    shown = "".join(mark for mark in last if unicodedata.category(mark)[0] != "C")
    name = UNSAFE.sub("_", shown).rstrip(" .")
    stem, dot, suffix = name.rpartition(".")
    suffix = suffix.lower()
    if not dot or f".{suffix}" not in SUFFIXES:
        what = f"{shown[:80] or 'The file'} is not {FORMAT_NAMES}."
        raise DataError(Problem("dataset", what, f"Its name must end in {', '.join(SUFFIXES)}."))
    stem = stem.strip(" .").encode()[:_LONGEST_NAME].decode(errors="ignore").strip(" .") or "data"
    if _RESERVED.match(stem):
        stem = f"_{stem}"
    return f"{stem}.{suffix}"


def list_uploads(home: Home) -> list[Path]:
    """Return the uploaded files, the newest first."""
    if not home.uploads.is_dir():
        return []
    found = [path for path in home.uploads.iterdir() if path.suffix in SUFFIXES and path.is_file()]
    return sorted(
        (path for path in found if not path.name.startswith(".")),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )


def _into_place(staged: Path, folder: Path, name: str) -> Path:
    for candidate in _names(name):
        target = folder / candidate
        try:
            # Claims the name, so that two uploads at once cannot take it both.
            target.open("xb").close()
        except FileExistsError:
            continue
        try:
            staged.replace(target)
        except OSError:
            target.unlink(missing_ok=True)
            raise
        return target
    raise AssertionError("names never run out")


def _names(name: str) -> Iterator[str]:
    yield name
    stem, _, suffix = name.rpartition(".")
    number = 1
    while True:
        number += 1
        yield f"{stem}-{number}.{suffix}"


def _too_large(name: str, limit_bytes: int) -> DataError:
    what = f"{name} is larger than {human_bytes(limit_bytes)}, the most that can be uploaded."
    remedy = "Put it on this computer and give its path instead."
    return DataError(Problem("dataset", what, remedy))


def _refused(name: str, error: OSError) -> RunError:
    reason = error.strerror or type(error).__name__
    full = error.errno == errno.ENOSPC
    remedy = "Free some space on the disk." if full else "Check the rights of the home folder."
    return RunError(Problem("uploads", f"{name} cannot be saved: {reason}.", remedy))
