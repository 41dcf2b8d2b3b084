"""`modelforge export RUN`, `modelforge push EXPORT` and `modelforge exports list|show|…`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from modelforge.cli.job_progress import follow_job
from modelforge.cli.output import (
    DONE,
    FAILED,
    INTERRUPTED,
    escape_control,
    print_json,
    print_table,
)
from modelforge.cli.parsing import OpenForge, command_group, confirm
from modelforge.errors import ConfigError, Problem
from modelforge.units import human_bytes, human_duration

if TYPE_CHECKING:
    from modelforge.forge import Forge
    from modelforge.runs.exports import ExportRequest
    from modelforge.services.exports.view import ExportView

# As in modelforge.runs.exports, whose import would make every command slower.
FORMATS = ("adapter", "merged", "gguf", "ollama", "mlx", "hub")
QUANTIZATIONS = ("f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs")
PRECISIONS = ("base", "float32")
COMBINATIONS = ("cat", "linear", "ties", "dare_linear", "dare_ties")
CONTENTS = ("adapter", "merged", "gguf")
_ADAPTER = "also merge the adapter of this run; may be repeated (its weight: 1)"


def add(add: Any, commands: Any, shared: argparse.ArgumentParser, open_forge: OpenForge) -> None:
    """Add the commands `export` and `exports` to the parser."""
    act = _with_forge(_export, open_forge)
    export = add("export", act, "Export a run, and compare the export with the trained model.")
    export.add_argument("run", help="id of the run")
    export.add_argument("--format", required=True, choices=FORMATS, help=", ".join(FORMATS))
    bits = f"of gguf and ollama: {', '.join(QUANTIZATIONS)} (q4_k_m)"
    export.add_argument("--quantization", default="q4_k_m", choices=QUANTIZATIONS, help=bits)
    merged = "of merged weights: base (that of the base model) or float32, twice the size (base)"
    export.add_argument("--precision", default="base", choices=PRECISIONS, help=merged)
    export.add_argument("--repository", default="", metavar="USER/NAME", help="on the Hub")
    content = f"what is uploaded to the Hub: {', '.join(CONTENTS)} (adapter)"
    export.add_argument("--content", default="adapter", choices=CONTENTS, help=content)
    export.add_argument("--public", action="store_true", help="a new repository is public")
    export.add_argument(
        "--adapter", action="append", default=[], metavar="RUN[=WEIGHT]", help=_ADAPTER
    )
    export.add_argument("--weight", type=float, default=1.0, metavar="W", help="of the run's own")
    how = f"how several adapters are combined: {', '.join(COMBINATIONS)} (cat)"
    export.add_argument("--combination", default="cat", choices=COMBINATIONS, help=how)
    density = "share of values that ties and dare keep (0.5)"
    export.add_argument("--density", type=float, default=0.5, metavar="D", help=density)
    export.add_argument("--predict", action="store_true", help="print size and time, and exit")

    _add_push(add, open_forge)
    _add_exports(commands, shared, open_forge)


def _add_push(add: Any, open_forge: OpenForge) -> None:
    push = add("push", _with_forge(_push, open_forge), "Upload a finished export to the Hub.")
    push.add_argument("export", help="id of the export")
    push.add_argument("--repository", required=True, metavar="USER/NAME", help="on the Hub")
    push.add_argument("--public", action="store_true", help="a new repository is public")


def _add_exports(commands: Any, shared: argparse.ArgumentParser, open_forge: OpenForge) -> None:
    new = command_group(
        commands, "exports", "List, show, stop or delete exports.", shared, open_forge
    )
    listed = new("list", _list, "List the exports, newest first.")
    listed.add_argument("--run", help="only exports of this run")
    show = new("show", _show, "Show an export.")
    stop = new("stop", _stop, "Stop an export.")
    for command in (show, stop):
        command.add_argument("export", help="id of the export")
    delete = new("delete", _delete, "Delete exports and their files.")
    delete.add_argument("export", nargs="+", help="ids of exports")
    delete.add_argument("--yes", action="store_true", help="delete them without asking")


def _with_forge(act: Any, open_forge: OpenForge) -> Any:
    return lambda options: act(options, open_forge(options))


def _request(options: argparse.Namespace) -> ExportRequest:
    from modelforge.runs.exports import ExportRequest

    return ExportRequest(
        run=options.run,
        format=options.format,
        quantization=options.quantization,
        precision=options.precision,
        content=options.content,
        repository=options.repository,
        private=not options.public,
        adapters=tuple(_adapter(text) for text in options.adapter),
        weight=options.weight,
        combination=options.combination,
        density=options.density,
    )


def _adapter(text: str) -> tuple[str, float]:
    run, equals, weight = text.partition("=")
    try:
        return run, float(weight) if equals else 1.0
    except ValueError as error:
        what = f"{weight!r} is not a number."
        raise ConfigError(Problem("--adapter", what, "Write RUN=0.5.")) from error


def _export(options: argparse.Namespace, forge: Forge) -> int:
    if options.predict:
        return _predict(options, forge)
    return _finish(options, forge, lambda: forge.exports.start(_request(options)))


def _push(options: argparse.Namespace, forge: Forge) -> int:
    def start() -> ExportView:
        return forge.exports.push(options.export, options.repository, private=not options.public)

    return _finish(options, forge, start)


def _finish(options: argparse.Namespace, forge: Forge, start: Callable[[], ExportView]) -> int:
    """Start an export, show it until it is over, and return the exit code."""
    try:
        view = follow_job(forge, forge.exports, start(), quiet=options.json)
    finally:
        forge.close()
    if options.json:
        print_json(as_json(view))
    else:
        _print(view)
    if view.state == "stopped":
        return INTERRUPTED
    return DONE if view.state == "finished" else FAILED


def _predict(options: argparse.Namespace, forge: Forge) -> int:
    prediction = forge.exports.predict(_request(options))
    if options.json:
        return print_json(prediction)
    rows = [
        ("Size", human_bytes(prediction.bytes)),
        ("Disk while working", human_bytes(prediction.disk_bytes)),
        ("Disk free", human_bytes(prediction.disk_free)),
        ("Memory", human_bytes(prediction.memory_bytes)),
        ("Time", f"about {human_duration(prediction.seconds)}"),
    ]
    print_table(rows)
    return DONE


def _list(options: argparse.Namespace, forge: Forge) -> int:
    views = forge.exports.list(options.run)
    if options.json:
        return print_json([as_json(view) for view in views])
    rows = []
    for view in views:
        created = datetime.fromtimestamp(view.created).astimezone().strftime("%Y-%m-%d %H:%M")
        kind = " ".join(part for part in (view.format, view.quantization) if part)
        rows.append(
            (view.id, created, str(view.state), kind, human_bytes(view.bytes), view.run_name)
        )
    headers = ["id", "created", "state", "format", "size", "run"]
    print_table(rows, headers) if rows else print("No exports yet.")
    return DONE


def _show(options: argparse.Namespace, forge: Forge) -> int:
    view = forge.exports.view(options.export)
    if options.json:
        return print_json(as_json(view))
    _print(view)
    return DONE


def _stop(options: argparse.Namespace, forge: Forge) -> int:
    view = forge.exports.stop(options.export)
    print(json.dumps({"id": view.id, "state": view.state}) if options.json else f"{view.state}.")
    return DONE


def _delete(options: argparse.Namespace, forge: Forge) -> int:
    views = [forge.exports.view(export_id) for export_id in options.export]
    size = human_bytes(sum(view.bytes for view in views))
    question = f"Delete {len(views)} export{'s' if len(views) > 1 else ''} ({size})?"
    if not options.yes and (options.json or not confirm(question)):
        raise ConfigError(Problem("exports", "Nothing was deleted.", "Add --yes."))
    for view in views:
        forge.exports.delete(view.id)
    print(json.dumps({"deleted": options.export}) if options.json else "Deleted.")
    return DONE


def as_json(view: ExportView) -> dict[str, Any]:
    """Return an export as the command prints it: every field, and the names of the files."""
    from pydantic import TypeAdapter

    from modelforge.services.exports.view import ExportView

    data: dict[str, Any] = TypeAdapter(ExportView).dump_python(view, mode="json")
    return data


def _print(view: ExportView) -> None:
    """Print how an export ended."""
    print(escape_control(f"{view.run_name}, {view.format}: {view.state}."))
    if view.self_test:
        text = f"{_test_text(view.self_test)} {view.self_test.get('caution') or ''}"
        print(escape_control(text.rstrip()))
    if view.problem:
        print(escape_control(f"{view.problem.sentence} {view.problem.remedy}".rstrip()))
    if view.path:
        # An upload may fail after the self-test has passed.
        is_usable = view.self_test is not None and view.self_test["passed"]
        about = "" if is_usable else " (not usable)"
        print(f"Folder{about}: {view.path}")
        print_table([(file.name, human_bytes(file.bytes)) for file in view.files])
    if view.address:
        print(escape_control(view.address))


def _test_text(test: dict[str, Any]) -> str:
    same = f"same answers on {test['same_text']} of {test['prompts']} prompts"
    if test.get("kl") is not None:
        return f"Self-test: {same}, mean KL divergence {test['kl']:.3g} nats per token."
    if test.get("max_logit_difference") is None:
        return f"Self-test: {same}."
    difference = test["max_logit_difference"]
    logits = f"logits differ by up to {difference:.3g}" if difference else "equal logits"
    if not test.get("rounding"):
        return f"Self-test: {same}, {logits}."
    rounded = f"rounding to 16 bits alone moves them by up to {test['rounding']:.3g}"
    return f"Self-test: {same}, {logits} beside the model rounded in the same way; {rounded}."
