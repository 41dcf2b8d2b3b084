"""Parser and commands: `modelforge ui|init|data|check|trial-run|train|queue|…`."""

from __future__ import annotations

import argparse
import json
import os
import runpy
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelforge import __version__
from modelforge.cli import (
    breakdown,
    chat,
    data,
    evaluate,
    export,
    export_settings,
    import_settings,
    presets,
    pretrain,
    queue,
    runs,
    samples,
    serve,
    storage,
    trial_run,
)
from modelforge.cli.output import (
    DONE,
    FAILED,
    INTERRUPTED,
    WRONG_INPUT,
    escape_control,
    print_check,
    print_doctor,
    print_json,
)
from modelforge.cli.parsing import (
    EXIT_CODES,
    Parser,
    add_recipe,
    open_home,
    parse_settings,
    write_file,
)
from modelforge.cli.recipe import read_recipe
from modelforge.cli.sweeps import commands as sweeps
from modelforge.cli.targets import commands as targets
from modelforge.cli.targets import notebook
from modelforge.cli.targets.commands import ON
from modelforge.errors import ConfigError, ForgeError, Problem, RunError

if TYPE_CHECKING:
    from modelforge.config.resolve import Layer
    from modelforge.forge import Forge


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: see EXIT_CODES."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments[:1] == ["ui"]:
        return _ui(arguments[1:])
    code = _run(arguments)
    try:
        sys.stdout.flush()
    except OSError as error:  # the reader of stdout has exited, as in `| head`, or a disk is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"The output cannot be written: {error.strerror}.", file=sys.stderr)
        return FAILED
    return code


def _run(arguments: list[str]) -> int:
    as_json, options = "--json" in arguments, argparse.Namespace(home=None)
    try:
        options = _parser().parse_args(arguments)
        return int(options.act(options))
    except ForgeError as error:
        _print_problems(error, as_json=as_json)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED
    except Exception as error:  # noqa: BLE001  # outermost frame: no traceback is shown
        _print_problems(_unexpected(error, options.home), as_json=as_json)
        return FAILED


def _unexpected(error: Exception, home: str | None) -> ForgeError:
    """Return the error that a person sees, and write the traceback to a log in the home folder."""
    from modelforge.paths import find_home
    from modelforge.runs.process.log_rotation import log_error

    log = find_home(home).logs / "command.log"
    log_error(log, error)
    what = f"The command failed with {type(error).__name__}."
    if isinstance(error, OSError) and error.strerror:
        named = f"{error.filename}: " if error.filename else ""
        what = f"The command failed: {named}{error.strerror}."
    remedy = f"The traceback is in {log}." if log.is_file() else "The log cannot be written."
    return RunError(Problem("modelforge", what, remedy))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="modelforge",
        description="Guided fine-tuning on one consumer GPU, or none.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"modelforge {__version__}")
    shared = Parser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print JSON")
    shared.add_argument("--home", help="folder for runs and models")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, act: Any, about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=about, description=about, epilog=EXIT_CODES, parents=[shared]
        )
        command.set_defaults(act=act)
        return command

    commands.add_parser("ui", help="open the app (see: modelforge ui --help)", add_help=False)
    _recipe_commands(add)
    pretrain.add(add, _train)
    trial_run.add(add, _forge, _layers)
    data.add(commands, shared, _forge)
    runs.add(commands, shared, _forge)
    queue.add(commands, shared, _forge, _layers)
    storage.add(commands, shared, _forge)
    chat.add(add, _forge)
    evaluate.add(add, commands, shared, _forge)
    samples.add(add, _forge)
    breakdown.add(add, _forge)
    export.add(add, commands, shared, _forge)
    serve.add(add, _forge)
    sweeps.add(add, _forge, _layers)
    targets.add(commands, shared, _forge)
    import_settings.add(add)
    export_settings.add(add, _forge, _layers)
    add("doctor", _doctor, "Check this machine.")
    presets.add(add, _forge)
    return parser


def _recipe_commands(add: Any) -> None:
    init = add("init", _init, "Write a recipe with defaults for this machine.")
    init.add_argument("file", nargs="?", type=Path, help="where to write it; default: print it")
    init.add_argument("--model", default="starter", help="model to train (starter)")
    init.add_argument("--dataset", default="sample:captain", help="data file or sample:NAME")
    init.add_argument(
        "--recommended", action="store_true", help="include the recommended speed optimizations"
    )
    check = add("check", _check, "Check a recipe: print findings, memory and speed.")
    add_recipe(check)
    trace = "trace memory with the training code; loads the training stack first"
    check.add_argument("--trace", action="store_true", help=trace)
    check.add_argument("--report", type=Path, metavar="FILE", help="write an HTML report")
    train = add("train", _train, "Train and show progress until the run ends.")
    add_recipe(train)
    train.add_argument("--detach", action="store_true", help="start the run in the background")
    train.add_argument("--queue", action="store_true", help="add the run to the queue")
    train.add_argument("--after", metavar="TIME", help="with --queue: 22:30 or +2h")
    train.add_argument("--name", help="name of the run")
    train.add_argument("--on", metavar="TARGET", help=f"{ON}; or notebook:FILE.ipynb")
    once = "a second command with the same text continues the run of the first one"
    train.add_argument("--request-id", metavar="TEXT", help=once)
    add("schema", _schema, "Print the settings as JSON Schema.")
    demo = add("demo", _demo, "Train the starter model on a sample and compare its answers.")
    demo.add_argument("--sample", default="captain", help="name of the sample (captain)")


def _ui(arguments: list[str]) -> int:
    sys.argv = ["modelforge ui", *arguments]
    runpy.run_module("ui", run_name="__main__", alter_sys=True)
    return DONE


def _forge(options: argparse.Namespace) -> Forge:
    from modelforge.forge import Forge

    return Forge(open_home(options.home))


def _init(options: argparse.Namespace) -> int:
    from modelforge.config import TrainingConfig
    from modelforge.config.recipe import dump_recipe
    from modelforge.config.resolve import Layer, resolve

    forge = _forge(options)
    prefill = forge.layers.prefill()
    chosen = prefill.values | {"model_name": options.model, "dataset": options.dataset}
    if options.recommended:
        chosen |= forge.preflight.recommended(Layer("init", chosen))
    nested = resolve(Layer("init", chosen)).config.explicit_values()
    values = {name: nested[name] for name in TrainingConfig.model_fields if name in nested}
    text = json.dumps(values, indent=2) + "\n" if options.json else dump_recipe(values)
    if options.file is None:
        print(text, end="")
        return DONE
    write_file(options.file, text, is_new=True)
    print(escape_control(f"{options.file}: written. {prefill.reason}"))
    return DONE


def _check(options: argparse.Namespace) -> int:
    from modelforge.services.pages.preflight_page import preflight_page

    forge = _forge(options)
    checked = forge.preflight.check(*_layers(options))
    if options.trace and not checked.problems:
        try:
            checked = forge.preflight.trace_memory(*_layers(options))
        finally:
            forge.close()
    if options.report is not None:
        write_file(options.report, preflight_page(checked, time.time()))
    if options.json:
        print_json(checked.as_preflight())
    else:
        print_check(checked)
    return DONE if checked.ready else WRONG_INPUT


def _train(options: argparse.Namespace) -> int:
    from modelforge.cli.follow import follow

    forge = _forge(options)
    if (options.on or "").startswith(notebook.PREFIX):
        return notebook.write(options, forge, _layers(options))
    if options.queue:
        return queue.enqueue(options, forge, _layers(options))
    if options.after is not None:
        raise ConfigError(Problem("--after", "The option needs --queue.", "Add --queue."))
    run_id = _start(options, forge)
    folder = forge.runs.folder(run_id).path
    if options.detach:
        print(json.dumps({"id": run_id, "folder": str(folder)}) if options.json else run_id)
        return DONE
    followed = follow(forge, run_id, quiet=options.json)
    evaluate.follow_end(forge, run_id, quiet=options.json)
    if options.json:
        print_json(followed.view)
    return followed.exit_code


def _start(options: argparse.Namespace, forge: Forge) -> str:
    """Start a run, or continue the one that was started with the same `--request-id`."""
    began = time.time()
    request_id = getattr(options, "request_id", None)
    on = getattr(options, "on", None)
    run_id = forge.runs.start(*_layers(options), name=options.name, request_id=request_id, on=on)
    view = forge.runs.view(run_id)
    if view.created < began and view.state in ("lost", "stopped", "failed"):
        forge.resume.resume(run_id)
    return run_id


def _demo(options: argparse.Namespace) -> int:
    from modelforge.cli.demo import run_demo

    return run_demo(_forge(options), options.sample, as_json=options.json)


def _doctor(options: argparse.Namespace) -> int:
    from modelforge.hardware.doctor import check_machine

    rows = check_machine(open_home(options.home))
    if options.json:
        fields = ("name", "state", "what", "remedy")
        print_json([{field: getattr(row, field) for field in fields} for row in rows])
    else:
        print_doctor(rows)
    return FAILED if any(row.state == "bad" for row in rows) else DONE


def _schema(options: argparse.Namespace) -> int:
    from modelforge.config.json_schema import json_schema
    from modelforge.config.profiles import load_profiles

    return print_json(json_schema(load_profiles(open_home(options.home).profiles)))


def _layers(options: argparse.Namespace) -> list[Layer]:
    from modelforge.config.resolve import Layer
    from modelforge.services.layers import COMMAND, user_layers

    if options.recipe is None and not options.set:
        what = "No recipe and no settings are given."
        raise ConfigError(
            Problem("recipe", what, "Give a recipe file, or settings with --set NAME=VALUE.")
        )
    values = parse_settings(options.set)
    recipe = read_recipe(options.recipe, open_home(options.home))
    layers = user_layers(values, recipe, COMMAND)
    if any("compute_specs" in layer.values for layer in layers):
        return layers
    return [Layer("this machine", {"compute_specs": _profile(options)}), *layers]


def _profile(options: argparse.Namespace) -> str:
    """Return the profile that suits this machine, which the page fills in too."""
    from modelforge.hardware.machine import choose_profile, probe_machine

    home = open_home(options.home)
    return choose_profile(probe_machine(home.root), own=home.profiles)[0]


def _print_problems(error: ForgeError, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"problems": [problem.as_dict() for problem in error.problems]}))
        return
    for problem in error.problems:
        print(escape_control(str(problem)), file=sys.stderr)
