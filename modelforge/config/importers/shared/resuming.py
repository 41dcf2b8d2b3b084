"""Options that resume a training of another system from a checkpoint."""

from __future__ import annotations

from typing import Any

from modelforge.config.importers.options import ABSENT, Option, Values, by
from modelforge.config.importers.report import Outcome
from modelforge.config.schema.run_length import NEWEST

SETTING = "trainer.resume_from_checkpoint"
ASKS_NOTHING = "This value asks for nothing."
OF_ANOTHER = "Its checkpoint lacks what a run saves here. Name a run of this program, as RUN:STEP."


def resumed(default: Any = ABSENT) -> Option:
    """Return an option that is on for the newest checkpoint, or names a folder."""

    def read(value: Any, _: Values) -> Outcome:
        text = str(value).strip().lower()
        if text in ("", "false", "none", "no"):
            return Outcome("no-effect", why=ASKS_NOTHING)
        if text in ("true", "yes", "auto", "latest", "last"):
            return Outcome("converted", {SETTING: NEWEST}, "Of the newest run like this.")
        return Outcome("refused", why=OF_ANOTHER)

    return by(read, default)


def resumed_step(default: int) -> Option:
    """Return an option that names a step; -1 resumes nothing."""

    def read(value: int, _: Values) -> Outcome:
        if value == -1:
            return Outcome("no-effect", why=ASKS_NOTHING)
        return Outcome("converted", {SETTING: str(value)}, "Of the newest run like this.")

    return by(read, default, kind="int")
