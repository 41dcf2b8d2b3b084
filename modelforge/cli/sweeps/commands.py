"""`modelforge sweep RECIPE`: try values of settings until a deadline; `sweeps`: all of them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from modelforge.cli.output import DONE, FAILED, INTERRUPTED, escape_control, print_json, print_table
from modelforge.cli.parsing import OpenForge, add_recipe
from modelforge.errors import ConfigError, Problem

if TYPE_CHECKING:
    from modelforge.config.resolve import Layer
    from modelforge.forge import Forge
    from modelforge.services.sweeps.service import SweepView
    from modelforge.services.sweeps.study import Trial

POLL_S = 0.5
# How the duration of a run is known, where it was measured.
MEASURED = ("trial_run", "last_run")
STATES = {
    "complete": "trained to the end",
    "paused": "paused",
    "pruned": "stopped",
    "fail": "failed",
}


def add(
    add_command: Callable[[str, Any, str], argparse.ArgumentParser],
    open_forge: OpenForge,
    read_layers: Callable[[argparse.Namespace], Sequence[Layer]],
) -> None:
    """Add the commands `sweep` and `sweeps`."""

    def act(options: argparse.Namespace) -> int:
        return _sweep(options, open_forge(options), read_layers(options))

    about = "Try values of settings within a deadline, and say whether one is better than yours."
    sweep = add_command("sweep", act, about)
    add_recipe(sweep)
    vary = "what to vary: learning_rate=1e-5..1e-3 or lora_r=8,16,32; may be repeated"
    sweep.add_argument("--vary", action="append", default=[], metavar="NAME=VALUES", help=vary)
    budget = "how long it may take, as 4h or 2h30m, or until when, as 07:00"
    sweep.add_argument("--budget", required=True, metavar="TIME", help=budget)
    sweep.add_argument("--name", default="", help="name of the sweep")
    on = "a target that trains trials, or here; may be repeated: they train at the same time"
    sweep.add_argument("--on", action="append", default=[], metavar="TARGET", help=on)
    sweep.add_argument("--detach", action="store_true", help="leave the work to a running app")
    trial = "believe the estimated duration instead of measuring it with a trial run"
    sweep.add_argument("--no-trial-run", action="store_true", help=trial)

    def act_on_sweeps(options: argparse.Namespace) -> int:
        return _sweeps(options, open_forge(options))

    about = "List sweeps, show one, stop it, or delete it."
    sweeps = add_command("sweeps", act_on_sweeps, about)
    sweeps.add_argument("sweep", nargs="?", help="id of a sweep")
    change = sweeps.add_mutually_exclusive_group()
    change.add_argument("--stop", action="store_true", help="stop it; what it has found is kept")
    change.add_argument("--delete", action="store_true", help="delete it; its trials stay as runs")


def _sweep(options: argparse.Namespace, forge: Forge, layers: Sequence[Layer]) -> int:
    from modelforge.services.sweeps.pricing import read_budget
    from modelforge.services.sweeps.space import read_dimensions
    from modelforge.services.targets.service import HERE

    budget_s, dimensions = read_budget(options.budget), read_dimensions(options.vary)
    began = time.time()
    if not options.no_trial_run and (not options.on or HERE in options.on):
        _measure(forge, layers, quiet=options.json)
    budget_s -= time.time() - began
    about = {"dimensions": dimensions, "name": options.name, "on": options.on}
    sweep = forge.sweeps.start(*layers, budget_s=budget_s, **about)
    if options.detach:
        print_json({"id": sweep}) if options.json else print(sweep)
        return DONE
    try:
        view = _follow(forge, sweep, quiet=options.json)
    except KeyboardInterrupt:
        text = f"\nThe sweep goes on while the app runs. Stop it: modelforge sweeps {sweep} --stop"
        print(text, file=sys.stderr)
        return INTERRUPTED
    finally:
        forge.close()
    _show(view, as_json=options.json)
    return DONE if view.best is not None else FAILED


def _sweeps(options: argparse.Namespace, forge: Forge) -> int:
    if options.sweep is None:
        if options.stop or options.delete:
            name = "--stop" if options.stop else "--delete"
            what = "No sweep is named."
            raise ConfigError(Problem(name, what, f"Give its id: modelforge sweeps ID {name}."))
        views = forge.sweeps.list()
        if options.json:
            return print_json(views)
        rows = [(each.id, each.name, str(len(each.trials)), _state(each)) for each in views]
        print_table(rows, ("Sweep", "Name", "Trials", "State"))
        return DONE
    if options.delete:
        forge.sweeps.delete(options.sweep)
        return DONE
    if options.stop:
        forge.sweeps.stop(options.sweep)
    _show(forge.sweeps.view(options.sweep), as_json=options.json)
    return DONE


def _measure(forge: Forge, layers: Sequence[Layer], *, quiet: bool) -> None:
    """Measure the duration of a run with a trial run, unless it was measured before."""
    report = forge.preflight.check(*layers).require()[2]
    if report.seconds_basis in MEASURED:
        return
    if not quiet:
        print("A trial run measures how long a run takes …", flush=True)
    trial_run = forge.trial_runs.start(*layers)
    while not forge.trial_runs.view(trial_run).state.is_over:
        forge.tend()
        time.sleep(POLL_S)


def _follow(forge: Forge, sweep: str, *, quiet: bool) -> SweepView:
    shown: dict[int, str] = {}
    while True:
        forge.tend()
        view = forge.sweeps.view(sweep)
        for trial in () if quiet else view.trials:
            if shown.get(trial.number) != (text := _line(trial)):
                shown[trial.number] = text
                print(escape_control(text), flush=True)
        if view.is_over:
            return view
        time.sleep(POLL_S)


def _line(trial: Trial) -> str:
    from modelforge.services.targets.service import HERE

    values = ", ".join(f"{name}={_number(value)}" for name, value in trial.values.items())
    whose = " (your own settings)" if trial.number == 0 else ""
    where = "" if trial.on == HERE else f" on {trial.on}"
    return f"Trial {trial.number + 1}{whose}{where}: {values}; {_progress(trial)}"


def _progress(trial: Trial) -> str:
    loss = "" if trial.loss is None else f", loss {trial.loss:.3f} at step {max(trial.losses)}"
    return f"{STATES.get(trial.state, 'in progress')}{loss}{trial.reason and f': {trial.reason}'}"


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _state(view: SweepView) -> str:
    return view.result["sentence"] if view.result else "in progress"


def _show(view: SweepView, *, as_json: bool) -> None:
    if as_json:
        print_json(view)
        return
    names = [each.name for each in view.dimensions]
    rows = [
        (
            f"{trial.number + 1}{' *' if trial.number == view.best else ''}",
            *(_number(trial.values.get(name, "")) for name in names),
            _progress(trial),
            trial.run,
        )
        for trial in view.trials
    ]
    print_table(rows, ("Trial", *names, "State", "Run"))
    print(escape_control(_state(view)))
