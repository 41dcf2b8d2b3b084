"""A rule between settings, and the list that every rule puts itself on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem

PREFERENCES = ("dpo", "rlhf")
Check = Callable[[TrainingConfig], Iterator[Problem]]


@dataclass(frozen=True)
class Rule:
    """One rule, and the settings it reads."""

    reads: frozenset[str]
    check: Check


RULES: list[Rule] = []


def rule(*reads: str) -> Callable[[Check], Check]:
    """Put the function that follows on the list, as a rule that reads these settings."""

    def keep(check: Check) -> Check:
        RULES.append(Rule(frozenset(reads), check))
        return check

    return keep
