"""Small files that are written atomically: readers see the old content or the new, never a part."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelforge.errors import Problem, RunError
from modelforge.paths import read_regular
from modelforge.units import MIB

# Far above any file of a run; a folder may come from elsewhere.
MAX_JSON_BYTES = 64 * MIB
# Resolution of mtimes: a folder that changed less than this ago may change again unnoticed.
FRESH_NS = 2_000_000_000
DISK_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write `data` to `path` atomically.

    Raises:
        RunError: The disk is full or the folder is not writable.
    """
    write_text(path, json.dumps(data, ensure_ascii=False, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically; raises as `write_json` does."""
    draft = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`; raises RunError when it is missing or unreadable."""
    data = find_json(path)
    if data is None:
        raise RunError(
            Problem(
                f"{path.parent.name}/{path.name}",
                "The file is missing or cannot be read.",
                "The run cannot be shown without it. Restore the file, or delete the run.",
            )
        )
    return data


def find_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in `path`, or None when there is none that can be read."""
    try:
        data = json.loads(read_regular(path, MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def mtime_ns(path: Path) -> int:
    """Return the modification time in nanoseconds, or 0 when the path does not exist."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def disk_error(error: OSError, path: Path) -> RunError:
    """Return the RunError to raise when writing `path` failed with `error`."""
    if error.errno in DISK_FULL:
        what = f"The file cannot be written: the disk of {path.parent} is full."
        remedy = "Free some disk space, or choose another home with --home or MODELFORGE_HOME."
    elif error.errno in FORBIDDEN:
        what = f"Writing is not allowed in {path.parent}."
        remedy = "Make the folder writable, or choose another home with --home or MODELFORGE_HOME."
    else:
        reason = error.strerror or type(error).__name__
        what = f"The file cannot be written in {path.parent}: {reason}."
        remedy = "Check the folder, or choose another home with --home or MODELFORGE_HOME."
    return RunError(Problem(path.name, what, remedy))
