"""Paths in the files of a run, as they are on this computer and on another. Standard library only.

Also used on the other computer, before anything is installed there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Stands for the home folder on the other computer.
HERE = "@modelforge-home@"


def replace_strings(value: Any, change: Callable[[str], str]) -> Any:
    """Return plain data with every string replaced by `change`; keys stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: replace_strings(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_strings(item, change) for item in value]
    return value


def with_home(value: Any, home: str) -> Any:
    """Return plain data in which paths begin with `home` in place of `HERE`."""

    def change(text: str) -> str:
        return home + text.removeprefix(HERE) if text.startswith(f"{HERE}/") else text

    return replace_strings(value, change)
