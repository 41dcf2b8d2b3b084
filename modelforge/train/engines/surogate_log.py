"""The log of Surogate, read while it grows.

Its file is a JSON array with one entry per line, whose closing bracket moves as entries are added;
JSON Lines are read as well. Entries of the kinds `step`, `eval` and `gpu` are used here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What stands between two entries, and around all of them.
_BETWEEN = " \t\r,[]"


class EngineLog:
    """The entries that have been added to a log since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """Return the new entries, and whether the log was begun anew before them.

        An entry that is still being written is left for the next call.
        """
        try:
            size = self._path.stat().st_size
            is_new = size < self._offset
            with self._path.open("rb") as file:
                file.seek(0 if is_new else self._offset)
                data = file.read()
        except OSError:
            return [], False
        self._offset = 0 if is_new else self._offset
        entries: list[dict[str, Any]] = []
        position = self._offset
        for line in data.split(b"\n"):
            entry = _entry(line)
            if entry is not None:
                entries.append(entry)
                # The end of the entry: what follows it is written again with the next one.
                self._offset = position + len(line.rstrip(b" \t\r,"))
            position += len(line) + 1
        return entries, is_new


def _entry(line: bytes) -> dict[str, Any] | None:
    text = line.decode("utf-8", "replace").strip(_BETWEEN)
    if not text.startswith("{"):
        return None
    try:
        entry = json.loads(text)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def number(entry: Mapping[str, Any], name: str) -> float | None:
    """Return a number of an entry; it writes "nan" and "inf" as text. None if it is absent."""
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def finite(entry: Mapping[str, Any], name: str) -> float | None:
    """Return a number of an entry; None if it is absent or not finite."""
    value = number(entry, name)
    return value if value is not None and math.isfinite(value) else None
