"""The registry of rules between settings, filled by the other modules of this package."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from modelforge.config import rules
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem

Check = Callable[[TrainingConfig], Iterator[Problem]]


@dataclass(frozen=True)
class Rule:
    """A rule, and the settings that it reads."""

    reads: frozenset[str]
    check: Check


_RULES: list[Rule] = []


def rule(*reads: str) -> Callable[[Check], Check]:
    """Register the decorated function as a rule that reads these settings."""

    def register(check: Check) -> Check:
        _RULES.append(Rule(frozenset(reads), check))
        return check

    return register


@cache
def all_rules() -> tuple[Rule, ...]:
    """Return the rules of every module of the package."""
    for module in pkgutil.iter_modules(rules.__path__, f"{rules.__name__}."):
        import_module(module.name)
    return tuple(_RULES)


def broken_rules(config: TrainingConfig, invalid: frozenset[str] = frozenset()) -> list[Problem]:
    """Return a problem for each rule that `config` breaks.

    Rules that read a setting of `invalid`, whose values are already refused, are left out.
    """
    checks = [rule.check for rule in all_rules() if not rule.reads & invalid]
    return [problem for check in checks for problem in check(config)]
