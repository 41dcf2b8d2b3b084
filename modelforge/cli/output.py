"""Print tables and results. Rich is imported with the first table, so that commands start fast."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import is_dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from modelforge.units import human_bytes, human_duration, planned_duration

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from modelforge.forge import Forge
    from modelforge.preflight import Report
    from modelforge.runs.listing import RunPage
    from modelforge.runs.trash import DeletedRun
    from modelforge.runs.view import RunView
    from modelforge.services.compare import Comparison
    from modelforge.services.evaluations.growth_comparisons import GrowthComparison
    from modelforge.services.preflight import PreflightResult
    from modelforge.services.queue import QueueView
    from modelforge.setup.system_checks import CheckResult

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130
STYLES = {
    "blocker": "bold red", "problem": "bold red", "failed": "bold red", "lost": "bold red",
    "bad": "bold red", "caution": "yellow", "note": "cyan", "running": "cyan",
    "good": "green", "finished": "green",
}  # fmt: skip
# Rich wraps at the width of the console. Output to a file or a pipe is not wrapped.
UNLIMITED_WIDTH = 100_000


def print_table(rows: Iterable[Sequence[str]], headers: Sequence[str] = ()) -> None:
    """Print rows in aligned columns: styled on a terminal, otherwise as plain text.

    Cells are escaped and never interpreted as Rich markup.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    is_terminal = sys.stdout.isatty()
    console = Console(
        force_terminal=is_terminal,
        no_color=None if is_terminal else True,
        width=None if is_terminal else UNLIMITED_WIDTH,
    )
    table = Table(
        *headers, box=None, pad_edge=False, show_header=bool(headers), padding=(0, 2, 0, 0)
    )
    for row in rows:
        cells = (escape_control(cell) for cell in row)
        table.add_row(*(Text(cell, STYLES.get(cell, "")) for cell in cells))
    with console.capture() as capture:
        console.print(table)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()), flush=True)


def print_json(value: Any) -> int:
    """Print a value, which may contain dataclasses, as JSON and return the exit code 0."""
    print(json.dumps(value, indent=2, default=_plain))
    return DONE


def _plain(value: Any) -> Any:
    if not is_dataclass(value):
        return str(value)
    kind: Any = type(value)
    return _adapter(kind).dump_python(value, mode="json", by_alias=True)


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def print_check(checked: PreflightResult) -> None:
    """Print problems, findings, memory and speed of a preflight."""
    rows = [("problem", str(problem)) for problem in checked.problems]
    report = checked.report
    if report is not None:
        for finding in report.findings:
            where = f"{finding.where}: " if finding.where else ""
            rows.append((finding.level, f"{where}{finding.what} {finding.remedy}".rstrip()))
    if rows:
        print_table(rows)
    if report is None:
        return
    basis = {"traced": "traced", "trial_run": "from a trial run"}.get(
        report.memory_basis or "", "estimated"
    )
    print(f"\nMemory, {basis}")
    parts = [(f"  {part.name}", f"{part.gib:.2f} GiB") for part in report.memory]
    print_table([*parts, ("  total", f"{report.memory_total_gib:.2f} GiB")])
    if report.quantized_bits is not None and report.weight_bits is not None:
        quantized, mean = f"{report.quantized_bits:.3g}", f"{report.weight_bits:.3g}"
        print(f"Quantized weights have {quantized} bits with their scales, all weights {mean}.")
    _print_stages(report)
    _print_time(report)
    _print_speed(report)
    print("\nReady to train." if checked.ready else "\nNot ready.")


def _print_stages(report: Report) -> None:
    """Print the stages of a growing model."""
    if not report.stages:
        return
    print("\nStages")
    print_table(
        (
            f"  {stage.name}",
            f"{stage.layers} layers",
            "" if stage.trained is None else f"{stage.trained / 1e6:,.2f} M trained",
            "" if stage.steps is None else f"{stage.steps:,} steps",
            "" if stage.memory_gib is None else f"{stage.memory_gib:.2f} GiB",
            "" if stage.seconds is None else human_duration(stage.seconds),
        )
        for stage in report.stages
    )


def _print_time(report: Report) -> None:
    steps = "unknown" if report.updates is None else f"{report.updates:,}"
    if report.reward_updates:
        steps = f"{report.reward_updates:,} to train the reward model + {steps}"
    from modelforge.preflight.report import length_text

    rows = [("Steps", steps)]
    if report.other_steps:
        others = ", ".join(f"{name} {count:,} steps" for name, count in report.other_steps.items())
        rows.append(("Length", f"by {report.length_by}; {others}"))
    if length := length_text(report.epochs, report.tokens, report.flops):
        rows.append(("Epochs", length))
    if report.seconds is not None:
        rows.append(("Time", _time_text(report, report.seconds)))
    if report.last_run:
        last = report.last_run
        took = f"{human_duration(last['run_seconds'])} for {last['run_steps']:,} steps"
        rows.append(("Last time", took))
    print()
    print_table(rows)


def _time_text(report: Report, seconds: float) -> str:
    unknown = " (no run has measured the speed of this computer)" if report.seconds_longest else ""
    times = seconds, report.seconds_basis, report.seconds_longest, report.evaluation_seconds
    return f"{planned_duration(*times)}{unknown}"


def _print_speed(report: Report) -> None:
    if not report.levers:
        return
    from modelforge.preflight.duration import LONGEST_FACTOR

    most = report.tokens_per_s or 0.0
    least = f"{most / LONGEST_FACTOR:,.0f} to " if report.seconds_longest else ""
    print(f"\nSpeed, about {least}{most:,.0f} tokens/s without padding")
    print_table(
        (
            f"  {option.label}",
            f"x{option.times:.2f}",
            f"{option.gib:+.2f} GiB",
            "on" if option.on else _assignments(option.settings),
        )
        for option in report.levers
    )
    if report.recommended:
        print(f"Recommended settings: {_assignments(report.recommended)}")


def _assignments(settings: dict[str, Any]) -> str:
    return " ".join(f"{name}={json.dumps(value)}" for name, value in settings.items())


def print_runs(page: RunPage) -> int:
    """Print a page of the run list."""
    if not page.all:
        print("No runs yet. Start one with: modelforge demo")
        return DONE
    if not page.total:
        print("No run matches.")
        return DONE
    rows = []
    for row in page.rows:
        created = datetime.fromtimestamp(row.created).astimezone().strftime("%Y-%m-%d %H:%M")
        loss = f"{row.loss:.3f}" if row.loss is not None else ""
        tags = " ".join(f"#{tag}" for tag in row.tags)
        took = human_duration(row.seconds())
        rows.append((row.id, created, str(row.state), took, str(row.step), loss, row.name, tags))
    print_table(rows, ["id", "created", "state", "duration", "step", "loss", "name", "tags"])
    remaining = page.total - len(page.rows)
    if remaining > 0:
        print(f"{remaining:,} more.")
    return DONE


def print_deleted(runs: list[DeletedRun]) -> int:
    """Print the deleted runs that can be restored."""
    if not runs:
        print("No deleted runs.")
        return DONE
    rows = [
        (run.id, f"{datetime.fromtimestamp(run.deleted).astimezone():%Y-%m-%d %H:%M}",
         human_bytes(run.bytes), run.name)
        for run in runs
    ]  # fmt: skip
    print_table(rows, ["id", "deleted", "size", "name"])
    return DONE


def print_comparison(compared: Comparison) -> int:
    """Print the results of runs and the differences between them."""
    from modelforge.services.compare import value_text

    runs = [
        (
            f"{number}", run.name, run.id, str(run.state), f"{run.updates:,}", f"{run.tokens:,.0f}",
            human_duration(run.duration), value_text(run.eval_loss),
        )
        for number, run in enumerate(compared.runs, start=1)
    ]  # fmt: skip
    columns = ["", "name", "id", "state", "steps", "tokens", "duration", "evaluation loss"]
    print_table(runs, columns)
    for title, lines in (
        ("different settings", compared.settings),
        ("different in effect", compared.effect),
        ("different data", [line for line in compared.data if line.differs]),
        ("different versions", compared.versions),
    ):
        if lines:
            print()
            values = [(line.name, *(value_text(value) for value in line.values)) for line in lines]
            print_table(values, [title, *(str(n) for n in range(1, len(runs) + 1))])
    if not any(line.differs for line in compared.data):
        print("\nAll runs used the same data.")
    return DONE


def print_queue(view: QueueView) -> int:
    """Print the queued runs, and why none of them starts now."""
    rows = []
    for run in view.runs:
        held = f"held {run.why_held}".rstrip() if run.held else ""
        start = f"after {run.when}" if run.when else ""
        status = ", ".join(part for part in (held, start) if part)
        rows.append((str(run.position), run.run, run.name, status))
    if rows:
        print_table(rows, ["", "id", "name", "status"])
    print(escape_control(view.why) if view.why else "The next run is about to start.")
    print(f"After a failure the queue {'continues' if view.go_on_after_failure else 'stops'}.")
    return DONE


def print_run(forge: Forge, view: RunView) -> int:
    """Print the state of a run, its result or the cause of its failure, and its folder."""
    cause, verdict = forge.diagnosis.cause(view.id), forge.diagnosis.verdict(view.id)
    total = view.total_steps or "?"
    print(escape_control(f"{view.name}: {view.state}, step {view.step} of {total}."))
    ending = view.ending or {}
    what, remedy = ending.get("what"), ending.get("remedy")
    if cause:
        what, remedy = cause.what, cause.remedy
    if what:
        print(escape_control(f"{what} {remedy or ''}").rstrip())
    if cause and (cause.action or {}).get("settings"):
        print(f"To start it with the suggested fix: modelforge runs retry {view.id}")
    if verdict and ending.get("kind") != "failed":
        print(verdict.text)
    if view.eval_loss is not None:
        bits = view.eval_bits_per_byte
        per_byte = "" if bits is None else f", {bits:.3f} bits per byte"
        print(f"Evaluation loss {view.eval_loss:.3f}{per_byte}.")
    if view.core is not None:
        print(f"CORE {view.core['score']:.3f} on {len(view.core['tasks'])} tasks.")
    _print_growth(view)
    print(f"Duration: {human_duration(view.seconds())}")
    print(f"Folder: {forge.runs.folder(view.id).path}")
    return DONE


def _print_growth(view: RunView) -> None:
    """Print the stages of a growing model with their loss, memory and time."""
    if view.growth is None:
        return
    planned = " planned"
    rows = []
    for stage in view.growth.stages:
        gib = stage.peak_gib or stage.memory_gib
        seconds = stage.seconds if stage.state == "done" else stage.planned_seconds
        rows.append((
            f"{stage.number} {stage.name}", stage.state, f"{stage.step} of {stage.steps or '?'}",
            "" if stage.eval_loss is None else f"{stage.eval_loss:.3f}",
            "" if not gib else f"{gib:.1f} GiB{'' if stage.peak_gib else planned}",
            "" if not seconds else
            f"{human_duration(seconds)}{'' if stage.state == 'done' else planned}",
        ))  # fmt: skip
    print_table(rows, ["stage", "state", "steps", "evaluation loss", "memory", "time"])


def print_growth(comparisons: Sequence[GrowthComparison]) -> int:
    """Print what growing a model gave beside other ways to train, or why that is unknown."""
    if not comparisons:
        print("This run does not grow a model.")
    for each in comparisons:
        name = "LoRA" if each.way == "lora" else "All new layers at once"
        state = f"{each.run} is {each.state}." if each.run else ""
        text = each.sentence or each.why_not or state or f"Not compared yet: --with {each.way}"
        print(f"{name}: {text}")
    return DONE


def print_doctor(results: Sequence[CheckResult]) -> None:
    """Print the checks of this machine."""
    rows: list[tuple[str, str, str]] = []
    for result in results:
        rows.append((result.state, result.name, result.what))
        if result.remedy:
            rows.append(("", "", f"→ {result.remedy}"))
    print_table(rows)


def escape_control(text: str) -> str:
    """Return untrusted text on one line, with control and direction characters escaped."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(character) for character in text)


def _escape(character: str) -> str:
    if character == "\n":
        return "⏎"
    # Cc: controls; Cf: format, such as direction marks; Cs, Zl, Zp: not printable.
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character.encode("unicode_escape", "surrogatepass").decode("ascii")
    return character
