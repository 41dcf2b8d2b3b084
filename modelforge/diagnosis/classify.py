"""Classify failures by the text of an error, an exit code or the end of a log."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any

from modelforge.config.schema.base import about
from modelforge.diagnosis import causes_machine, causes_model, causes_settings
from modelforge.diagnosis.cause import KnownCause
from modelforge.diagnosis.fixes import fix_action

UNEXPECTED = "unexpected"
# Only the last lines of the log can be the cause: the worker survived earlier errors.
LAST_LINES = 40
CATALOGUE: tuple[KnownCause, ...] = (
    *causes_machine.ENTRIES,
    *causes_model.ENTRIES,
    *causes_settings.ENTRIES,
)
_CONTROL = re.compile(r"\x1b\[[0-9;]*m")
# Exit codes of Windows that correspond to signals.
_WINDOWS = {0xC0000005: 11, 0xC000001D: 4, 0xC000013A: 2, 0xC0000017: 9, 0xC0000409: 6}


@dataclass(frozen=True)
class Cause:
    """Why a run failed or was lost.

    `action` has a `label` and either `settings` (a patch of the run's settings by dotted name),
    `kind` resume, or `kind` link with an `href`.
    """

    code: Annotated[str, about("A stable, hyphenated code; `unexpected` if the cause is unknown.")]
    where: Annotated[str, about("The setting or the part that caused it.")]
    what: str
    remedy: str
    action: Annotated[
        dict[str, Any] | None,
        about("A suggested action: `label`, and `settings` to change or a `kind`; null for none."),
    ] = None
    certain: Annotated[bool, about("False if the cause is inferred from outside the worker.")] = (
        True
    )


def diagnose_exit(
    text: str,
    *,
    exit_code: int | None = None,
    signal: int | None = None,
    config: Mapping[str, Any] | None = None,
    memory_ran_out: bool = False,
) -> Cause:
    """Return the most probable cause of a worker that ended without an ending event.

    `text` is the end of its log. `memory_ran_out`: the system terminated processes meanwhile
    because memory ran out. An unknown cause has the code `unexpected`.
    """
    entry = _by_signal(signal or signal_of(exit_code), memory_ran_out) or _by_lines(text)
    if entry is None:
        return Cause(
            UNEXPECTED,
            "worker",
            "The worker ended without an error message: killed, power loss, or out of memory.",
            "Its last output is below the log. Start it again, or send a support bundle.",
            fix_action("again", config),
            certain=False,
        )
    return _as_cause(entry, config, certain=False)


def match_text(text: str) -> KnownCause | None:
    """Return the first entry of the catalogue that matches the text, or None."""
    plain = _CONTROL.sub("", text)
    return next((entry for entry in CATALOGUE if _patterns(entry).search(plain)), None)


def cause_of(code: str, config: Mapping[str, Any] | None = None) -> Cause | None:
    """Return the cause with this code, with a fix for these settings; None for unknown codes."""
    entry = _entry(code)
    return None if entry is None else _as_cause(entry, config, certain=True)


def signal_of(exit_code: int | None) -> int | None:
    """Return the signal that an exit code stands for, or None."""
    if exit_code is None:
        return None
    if -64 <= exit_code < 0:
        return -exit_code
    # Windows has no signals, and may report its codes as negative numbers.
    if (number := exit_code & 0xFFFFFFFF) in _WINDOWS:
        return _WINDOWS[number]
    return exit_code - 128 if 128 < exit_code <= 192 else None


def _as_cause(entry: KnownCause, config: Mapping[str, Any] | None, *, certain: bool) -> Cause:
    action = fix_action(entry.fix, config)
    cause = Cause(entry.code, entry.where, entry.what, entry.remedy, action)
    if certain:
        return cause
    what = f"Probably: {cause.what[:1].lower()}{cause.what[1:]}" if entry.inferred else cause.what
    return replace(cause, what=what, certain=False)


def _by_signal(signal: int | None, memory_ran_out: bool) -> KnownCause | None:
    if memory_ran_out and signal in (None, 9):
        return _entry("killed-for-memory")
    return next((entry for entry in CATALOGUE if signal in entry.signals), None)


def _by_lines(text: str) -> KnownCause | None:
    lines = [line for line in text.splitlines() if line.strip()]
    for line in reversed(lines[-LAST_LINES:]):
        if entry := match_text(line):
            return entry
    return None


def _entry(code: str) -> KnownCause | None:
    return next((entry for entry in CATALOGUE if entry.code == code), None)


@cache
def _patterns(entry: KnownCause) -> re.Pattern[str]:
    # An entry without patterns matches nothing, not even the empty text.
    return re.compile("|".join(entry.patterns) or r"(?!)", re.IGNORECASE)
