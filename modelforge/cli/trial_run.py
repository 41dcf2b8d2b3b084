"""`modelforge trial-run RECIPE`: measure memory and speed with a few steps."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from modelforge.cli.output import DONE, FAILED, INTERRUPTED, escape_control, print_json, print_table
from modelforge.cli.parsing import OpenForge, add_recipe
from modelforge.diagnosis.reward_trial import CHEATS
from modelforge.units import planned_duration

if TYPE_CHECKING:
    from modelforge.config.resolve import Layer
    from modelforge.forge import Forge
    from modelforge.preflight.trial_run import RewardTrial
    from modelforge.services.trial_runs import TrialRunView

POLL_S = 0.3


def add(
    add_command: Callable[[str, Any, str], argparse.ArgumentParser],
    open_forge: OpenForge,
    read_layers: Callable[[argparse.Namespace], Sequence[Layer]],
) -> None:
    """Add the command `trial-run`."""

    def act(options: argparse.Namespace) -> int:
        return _trial_run(options, open_forge(options), read_layers(options))

    about = (
        "Run a few steps, an evaluation and a save; print memory and duration of the run, and for "
        "RLHF what the reward is worth."
    )
    add_recipe(add_command("trial-run", act, about))


def _trial_run(options: argparse.Namespace, forge: Forge, layers: Sequence[Layer]) -> int:
    trial_run_id = forge.trial_runs.start(*layers)
    try:
        view = _follow(forge, trial_run_id, quiet=options.json)
    except KeyboardInterrupt:
        forge.trial_runs.stop(trial_run_id)
        print("\nStopped; nothing is kept.", file=sys.stderr)
        return INTERRUPTED
    if options.json:
        print_json(view)
    else:
        _print(view, forge.preflight.check(*layers).report)
    return DONE if view.trial_run is not None else FAILED


def _follow(forge: Forge, trial_run_id: str, *, quiet: bool) -> TrialRunView:
    phase = ""
    while True:
        view = forge.trial_runs.view(trial_run_id)
        if not quiet and view.phase not in (phase, ""):
            phase = view.phase
            print(f"{escape_control(phase)} …", flush=True)
        if view.state.is_over:
            return view
        forge.tend()
        time.sleep(POLL_S)


def _print(view: TrialRunView, report: Any) -> None:
    result = view.trial_run
    for note in view.notes:
        print(escape_control(note))
    if result is None:
        ending = view.ending or {}
        texts = [str(ending[name]) for name in ("what", "remedy") if ending.get(name)]
        message = " ".join(texts) or f"The trial run is {view.state}."
        print(escape_control(message), file=sys.stderr)
        return
    rows = [
        ("Peak memory", f"{result.peak_gib:.2f} GiB"),
        ("Time per step", f"{result.seconds_per_update:.2f} s"),
    ]
    if result.seconds_per_update_worst:
        rows.append(("  longest rows", f"{result.seconds_per_update_worst:.2f} s"))
    if result.checkpoint_gib is not None:
        size_mib, seconds = result.checkpoint_gib * 1024, result.save_seconds or 0.0
        rows.append(("Checkpoint", f"{size_mib:.0f} MiB in {seconds:.1f} s"))
    if report is not None and report.seconds is not None:
        took = planned_duration(report.seconds, report.seconds_basis, report.seconds_longest)
        rows.append(("Whole run", took))
    print_table(rows)
    if result.reward_trial is not None:
        _print_reward(result.reward_trial)


def _print_reward(trial: RewardTrial) -> None:
    print(f"\nReward trial: {trial.verdict}")
    for text in (trial.sentence, trial.advice):
        print(escape_control(text))
    share = f"{trial.no_signal:,} of {trial.groups:,}, {100 * trial.share:.0f} %"
    rows = [
        ("Groups without signal", f"{share} ({100 * trial.low:.0f} to {100 * trial.high:.0f} %)"),
        ("Spread within groups", f"{trial.spread:.2f}"),
        ("Mean reward", f"{trial.mean:.2f}"),
        ("  best of each group", f"{trial.best:.2f}"),
    ]
    if trial.expected is not None:
        rows.append(("  expected answers", f"{trial.expected:.2f}"))
    rows += [
        (f"  {CHEATS[name][0].lower()}", f"{trial.cheats[name]:.2f}")
        for name in CHEATS
        if name in trial.cheats
    ]
    print_table(rows)
