"""A hash of what a run would do, so that a start can refuse a plan that has changed since."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from modelforge.errors import ConfigError, Problem
from modelforge.models.fingerprint import fingerprint

if TYPE_CHECKING:
    from modelforge.services.preflight import PreflightResult

DIGITS = 32


class StalePlanError(ConfigError):
    """The plan is not the one that was shown: settings, data, model or machine have changed."""


def plan_hash(checked: PreflightResult) -> str:
    """Return a hash of settings, plan, data and base model; empty where a start is not possible.

    Equal hashes mean the same settings and effective values on the same rows and weights.
    """
    if checked.errors or not (checked.resolved and checked.plan and checked.data and checked.facts):
        return ""
    facts = checked.facts
    is_folder = facts.local and facts.revision is None
    parts = {
        "config": checked.resolved.config.explicit_values(),
        "plan": checked.plan.as_dict(),
        "dataset": checked.data.as_record(),
        "base": fingerprint(Path(facts.path)) if is_folder else facts.revision,
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:DIGITS]


def require_plan(checked: PreflightResult, expected: str | None) -> None:
    """Raise StalePlanError if a plan is expected and the check gives another one."""
    current = plan_hash(checked) if expected is not None else None
    if current != expected:
        what = f"The plan has changed: its hash is {current}, not {str(expected)[:64]!r}."
        remedy = "Look at the new plan and its findings, then start with the new hash."
        raise StalePlanError(Problem("plan_hash", what, remedy))
