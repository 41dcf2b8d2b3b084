"""The results of a step, written after every new figure so that a step may end at any time."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Record:
    """Named results in a JSON file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = {}

    def keep(self, **values: Any) -> None:
        """Add results, and write the file."""
        self.values.update(values)
        staged = self.path.with_suffix(".part")
        staged.write_text(json.dumps(self.values, indent=1, default=str), encoding="utf-8")
        os.replace(staged, self.path)  # noqa: PTH105

    def measure(self, name: str, action: Callable[[], Any]) -> Any:
        """Keep the result of an action under `name`, or its error; return the result, or None."""
        try:
            result = action()
        except Exception as error:  # noqa: BLE001  # one figure less; the others are still measured
            traceback.print_exc()
            self.keep(**{name: f"{type(error).__name__}: {error}"[:500]})
            return None
        self.keep(**{name: result})
        return result


def run_step(step: Callable[[Record], None]) -> None:
    """Run a step whose record is the file named on the command line."""
    record = Record(Path(sys.argv[1]))
    record.keep()
    step(record)


def read_record(path: Path) -> dict[str, Any]:
    """Return the results of a step; empty if there are none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
