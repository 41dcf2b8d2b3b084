"""A known cause of failure."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass


@dataclass(frozen=True)
class KnownCause:
    """A cause of failure, with the patterns and signals that identify it.

    `where` is a setting or a part of the system, `fix` the name of a fix in `fixes`. A cause
    without patterns is identified only by its code. One that is `inferred` from the exit or the
    log is reported as probable.
    """

    code: str
    what: str
    remedy: str
    patterns: tuple[str, ...] = ()
    _: KW_ONLY
    where: str
    signals: tuple[int, ...] = ()
    fix: str = ""
    inferred: bool = True
