"""What preflight says of trackers: is each one here, and does anything leave the computer."""

from __future__ import annotations

import os
from collections.abc import Iterator

from modelforge.config.rules.training import trackers
from modelforge.config.schema.runtime import TRACKER_ADDRESSES
from modelforge.errors import Finding
from modelforge.preflight.context import Case

WHERE = "logging.report_to"


def tracker_missing(case: Case) -> Iterator[Finding]:
    """Refuse a tracker whose package is not installed."""
    asked = trackers(case.config)
    missing = [name for name in asked if name not in case.machine.packages]
    if not missing:
        return
    others = ", ".join(name for name in asked if name not in missing)
    extras = "".join(f" --with {name}" for name in missing)
    several = len(missing) > 1
    yield Finding(
        "blocker",
        "tracker-missing",
        f"The {'trackers' if several else 'tracker'} {' and '.join(missing)} "
        f"{'are' if several else 'is'} not installed.",
        f"Run `python launch.py setup{extras}`, or leave {'them' if several else 'it'} out: the "
        "curves are kept here in any case.",
        WHERE,
        others,
    )


def leaves_the_computer(case: Case) -> Iterator[Finding]:
    """Tell where curves and settings go when they leave this computer."""
    asked = trackers(case.config)
    if "wandb" in asked and case.config.logging.wandb_mode == "online":
        yield Finding(
            "note",
            "tracker-online",
            "Curves, settings and the names of the run and its model are sent to Weights & Biases.",
            "Choose the W&B mode offline to keep them here.",
            "logging.wandb_mode",
            "offline",
        )
    for name, variable in TRACKER_ADDRESSES.items():
        if name in asked and os.environ.get(variable):
            yield Finding(
                "note",
                "tracker-online",
                f"{variable} is set, so {name} keeps the curves there and not in the run's folder.",
                f"Unset {variable} to keep them here.",
                WHERE,
            )
