"""`modelforge rehearse RECIPE`: a few real updates before a run, and what they say of it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelforge.config.resolve import Layer
    from modelforge.forge import Forge
    from modelforge.services.trial_runs import TrialRunView

DONE, FAILED = 0, 1
LOOK_S = 0.3


def add(
    add_command: Callable[[str, Any, str], argparse.ArgumentParser],
    forge: Callable[[argparse.Namespace], Forge],
    layers: Callable[[argparse.Namespace], Sequence[Layer]],
) -> None:
    """Add the command."""

    def act(options: argparse.Namespace) -> int:
        return _rehearse(options, forge(options), layers(options))

    about = "Try a few updates, a check and a save; say what the run will need."
    command = add_command("trial-run", act, about)
    command.add_argument("recipe", type=Path, help="a recipe file (YAML or JSON)")
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")


def _rehearse(options: argparse.Namespace, forge: Forge, layers: Sequence[Layer]) -> int:
    found = forge.trial_runs.start(*layers)
    try:
        view = _follow(forge, found, quiet=options.json)
    except KeyboardInterrupt:
        forge.trial_runs.stop(found)
        print("\nStopped; nothing is kept.", file=sys.stderr)
        return FAILED
    if options.json:
        print(json.dumps(view.as_dict(), indent=2))
    else:
        _print(view, forge.preflight.check(*layers).report)
    return DONE if view.trial_run is not None else FAILED


def _follow(forge: Forge, found: str, *, quiet: bool) -> TrialRunView:
    said = ""
    while True:
        view = forge.trial_runs.view(found)
        if not quiet and view.phase not in (said, ""):
            said = view.phase
            print(f"{said} …", flush=True)
        if view.state.is_over:
            return view
        forge.tend()
        time.sleep(LOOK_S)


def _print(view: TrialRunView, report: Any) -> None:
    measured = view.trial_run
    for note in view.notes:
        print(note)
    if measured is None:
        ending = view.ending or {}
        said = [str(ending[name]) for name in ("what", "remedy") if ending.get(name)]
        print(" ".join(said) or f"The rehearsal has {view.state}.", file=sys.stderr)
        return
    print(f"memory at most     {measured.peak_gib:.2f} GiB")
    print(f"one update         {measured.seconds_per_update:.2f} s")
    if measured.seconds_per_update_worst:
        print(f"  longest rows     {measured.seconds_per_update_worst:.2f} s")
    if measured.checkpoint_gib is not None:
        size, seconds = measured.checkpoint_gib * 1024, measured.save_seconds or 0.0
        print(f"one checkpoint     {size:.0f} MiB in {seconds:.1f} s")
    if report is not None and report.seconds is not None:
        print(f"the whole run      about {max(1, round(report.seconds / 60))} min")
