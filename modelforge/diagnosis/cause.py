"""A known cause of failure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownCause:
    """A cause by its code: what it means, what helps, and the words or signals it is known by.

    `where` is a setting's name or a part; `cure` names the button that applies the remedy. An
    entry without patterns is only known by its code: our own errors bring their own words.
    What is only `inferred` from outside is told as probable.
    """

    code: str
    where: str
    what: str
    remedy: str
    patterns: tuple[str, ...] = ()
    signals: tuple[int, ...] = ()
    fix: str = ""
    inferred: bool = True
