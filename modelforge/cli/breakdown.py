"""`modelforge breakdown RUN`: the measured time and memory of a run by part."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from modelforge.cli.output import DONE, print_json
from modelforge.cli.parsing import OpenForge

if TYPE_CHECKING:
    from modelforge.runs.progress.breakdown import Breakdown

NONE_YET = (
    "Nothing was measured. Start a run with --set logging.time_breakdown=true or "
    "--set logging.memory_breakdown=true."
)


def add(add_command: Any, open_forge: OpenForge) -> None:
    """Add the command `breakdown` to the parser."""
    about = "Show how long each part of a run took, and how much memory."

    def act(options: argparse.Namespace) -> int:
        measured = open_forge(options).runs.breakdown(options.run)
        return print_json(measured) if options.json else _print(measured)

    command = add_command("breakdown", act, about)
    command.add_argument("run", help="id of the run")


def _print(measured: Breakdown) -> int:
    if not measured.is_measured:
        print(NONE_YET)
        return DONE
    for part in measured.time:
        print(f"  {part.label:24}{part.seconds:>10.1f} s{100 * part.share:>6.0f} %")
    if measured.time and measured.memory:
        print()
    for memory in measured.memory:
        estimate = memory.estimated_gib
        estimated = "" if estimate is None else f"   estimated {estimate:.2f} GiB"
        print(f"  {memory.label:24}{memory.gib:>8.2f} GiB{estimated}")
    if measured.peak_gib is not None:
        print(f"  {'Peak':24}{measured.peak_gib:>8.2f} GiB")
    return DONE
