"""`modelforge evaluate RUN` and `modelforge evaluations list|show|stop|delete`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
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
from modelforge.errors import ConfigError, Problem, RunError
from modelforge.units import human_bytes, human_duration

if TYPE_CHECKING:
    from modelforge.forge import Forge
    from modelforge.runs.evaluations import EvaluationRequest
    from modelforge.services.evaluations.view import EvaluationView

# As in modelforge.runs.evaluations, whose import would make every command slower.
ROWS = 200
CONTESTANTS = ("base", "prompted", "tuned")
# Of each kind, as many are printed; --json has all of them.
SHOWN_ROWS = 10
# What a report has at least in JSON.
EMPTY: dict[str, Any] = {"verdict": None, "metrics": [], "forgetting": None, "rows": []}


def add(add: Any, commands: Any, shared: argparse.ArgumentParser, open_forge: OpenForge) -> None:
    """Add the commands `evaluate` and `evaluations` to the parser."""
    act = _with_forge(_evaluate, open_forge)
    evaluate = add("evaluate", act, "Compare a run with its base model on the evaluation rows.")
    evaluate.add_argument("run", help="id of the run")
    rows = f"use up to N evaluation rows ({ROWS})"
    evaluate.add_argument("--rows", type=int, default=ROWS, metavar="N", help=rows)
    only = "compare losses only, which is faster"
    evaluate.add_argument("--no-answers", action="store_true", help=only)
    without = "leave out the base model with examples in its prompt"
    evaluate.add_argument("--no-prompted", action="store_true", help=without)
    general = "leave out the general prompts, which show what was forgotten"
    evaluate.add_argument("--no-general", action="store_true", help=general)
    evaluate.add_argument("--prompts", default="", metavar="FILE", help="also answer these prompts")
    task = "also run this task of lm-eval; may be repeated"
    evaluate.add_argument("--task", action="append", default=[], metavar="NAME", help=task)
    evaluate.add_argument("--seed", type=int, default=0, metavar="N", help="of the intervals (0)")
    evaluate.add_argument("--predict", action="store_true", help="print the time, and exit")
    _add_evaluations(commands, shared, open_forge)


def _add_evaluations(commands: Any, shared: argparse.ArgumentParser, open_forge: OpenForge) -> None:
    about = "List, show, stop or delete evaluations."
    new = command_group(commands, "evaluations", about, shared, open_forge)
    listed = new("list", _list, "List the evaluations, newest first.")
    listed.add_argument("--run", help="only evaluations of this run")
    show = new("show", _show, "Show the report of an evaluation.")
    stop = new("stop", _stop, "Stop an evaluation. What it has computed is kept.")
    for command in (show, stop):
        command.add_argument("evaluation", help="id of the evaluation")
    delete = new("delete", _delete, "Delete evaluations and their reports.")
    delete.add_argument("evaluation", nargs="+", help="ids of evaluations")
    delete.add_argument("--yes", action="store_true", help="delete them without asking")


def _with_forge(act: Any, open_forge: OpenForge) -> Any:
    return lambda options: act(options, open_forge(options))


def _request(options: argparse.Namespace) -> EvaluationRequest:
    from modelforge.runs.evaluations import EvaluationRequest

    return EvaluationRequest(
        run=options.run,
        rows=options.rows,
        answers=not options.no_answers,
        prompted=not options.no_prompted,
        general=not options.no_general,
        prompts=options.prompts,
        tasks=tuple(options.task),
        seed=options.seed,
    )


def _evaluate(options: argparse.Namespace, forge: Forge) -> int:
    request = _request(options)
    if options.predict:
        return _predict(options, forge, request)
    try:
        view = forge.evaluations.start(request)
        if not options.json:
            for note in view.prediction.notes:
                print(escape_control(note))
        view = follow_job(forge, forge.evaluations, view, quiet=options.json)
    finally:
        forge.close()
    if options.json:
        print_json(as_json(view))
    else:
        print_evaluation(view)
    if view.state == "stopped":
        return INTERRUPTED
    return DONE if view.state == "finished" else FAILED


def follow_end(forge: Forge, run_id: str, *, quiet: bool) -> None:
    """Show the evaluation that a finished run has at its end by its config, if it has one."""
    try:
        view = forge.evaluations.of_end(run_id)
    except RunError as error:
        print(f"Not evaluated: {escape_control(str(error))}", file=sys.stderr)
        return
    if view is None or view.state.is_over:
        return
    try:
        view = follow_job(forge, forge.evaluations, view, quiet=quiet)
    finally:
        forge.evaluations.close()
    if not quiet:
        print_evaluation(view)


def _predict(options: argparse.Namespace, forge: Forge, request: EvaluationRequest) -> int:
    prediction = forge.evaluations.predict(request)
    if options.json:
        return print_json(prediction)
    rows = [
        ("Evaluation rows", f"{prediction.rows:,}"),
        ("Device", prediction.device),
        ("Memory", human_bytes(prediction.memory_bytes)),
        ("Time", f"about {human_duration(prediction.seconds)}"),
    ]
    print_table(rows)
    for note in prediction.notes:
        print(escape_control(note))
    return DONE


def _list(options: argparse.Namespace, forge: Forge) -> int:
    views = forge.evaluations.list(options.run)
    if options.json:
        return print_json([as_json(view) for view in views])
    rows = []
    for view in views:
        created = datetime.fromtimestamp(view.created).astimezone().strftime("%Y-%m-%d %H:%M")
        verdict = ((view.report or {}).get("verdict") or {}).get("kind", "")
        rows.append((view.id, created, str(view.state), verdict, view.run_name))
    headers = ["id", "created", "state", "verdict", "run"]
    print_table(rows, headers) if rows else print("No evaluations yet.")
    return DONE


def _show(options: argparse.Namespace, forge: Forge) -> int:
    view = forge.evaluations.view(options.evaluation)
    if options.json:
        return print_json(as_json(view))
    print_evaluation(view)
    return DONE


def _stop(options: argparse.Namespace, forge: Forge) -> int:
    view = forge.evaluations.stop(options.evaluation)
    print(json.dumps({"id": view.id, "state": view.state}) if options.json else f"{view.state}.")
    return DONE


def _delete(options: argparse.Namespace, forge: Forge) -> int:
    views = [forge.evaluations.view(evaluation) for evaluation in options.evaluation]
    question = f"Delete {len(views)} evaluation{'s' if len(views) > 1 else ''}?"
    if not options.yes and (options.json or not confirm(question)):
        raise ConfigError(Problem("evaluations", "Nothing was deleted.", "Add --yes."))
    for view in views:
        forge.evaluations.delete(view.id)
    print(json.dumps({"deleted": options.evaluation}) if options.json else "Deleted.")
    return DONE


def as_json(view: EvaluationView) -> dict[str, Any]:
    """Return an evaluation as the commands print it: the report, with id, state and request."""
    from pydantic import TypeAdapter

    from modelforge.services.evaluations.view import EvaluationView

    data: dict[str, Any] = TypeAdapter(EvaluationView).dump_python(view, mode="json")
    report = data.pop("report") or {}
    return {**EMPTY, **data, **report}


def print_evaluation(view: EvaluationView) -> None:
    """Print how an evaluation ended, and its report."""
    print(escape_control(f"{view.run_name}: {view.state}."))
    if view.problem:
        print(escape_control(f"{view.problem.sentence} {view.problem.remedy}".rstrip()))
    report = view.report
    if not report:
        return
    for part in ("verdict", "learned", "need", "forgetting"):
        if sentence := (report.get(part) or {}).get("sentence"):
            print(escape_control(sentence))
    if metrics := report.get("metrics"):
        print_table([_metric_row(metric) for metric in metrics], ["metric", *CONTESTANTS, "rows"])
    for line in _row_lines(report.get("rows") or []):
        print(escape_control(line))
    for note in report.get("notes") or []:
        print(escape_control(note))


def _metric_row(metric: dict[str, Any]) -> tuple[str, ...]:
    values = metric.get("contestants") or {}
    cells = (_value(values.get(contestant)) for contestant in CONTESTANTS)
    label = str(metric.get("label") or metric.get("name"))
    return (escape_control(label), *cells, f"{metric.get('rows') or 0:,}")


def _value(measured: dict[str, Any] | None) -> str:
    """Return a value with its interval; empty where it was not measured."""
    if not measured or measured.get("value") is None:
        return ""
    low, high = measured.get("interval") or (None, None)
    value = f"{measured['value']:.3g}"
    return value if low is None or high is None else f"{value} ({low:.3g} to {high:.3g})"


def _row_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each row of the training data that deserves a look, up to a number."""
    for row in rows[:SHOWN_ROWS]:
        lines = ", ".join(str(line) for line in row.get("lines") or [])
        yield f"Row {lines}: {str(row.get('kind')).replace('-', ' ')}. {row.get('detail') or ''}"
    if len(rows) > SHOWN_ROWS:
        yield f"{len(rows) - SHOWN_ROWS} more rows: add --json."
