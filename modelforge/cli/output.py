"""What the commands print: a run's progress, checks, lists and tables."""

from __future__ import annotations

import json
import sys
import time
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    from modelforge.diagnosis.classify import Cause
    from modelforge.diagnosis.verdict import Verdict
    from modelforge.forge import Forge
    from modelforge.preflight import Report
    from modelforge.runs.events import EventRecord
    from modelforge.runs.listing import Page
    from modelforge.runs.view import RunView
    from modelforge.services.compare import Comparison
    from modelforge.services.preflight import PreflightResult
    from modelforge.services.queue import QueueView
    from modelforge.setup.system_checks import CheckResult

TICK_S = 0.2
# What of the queue does not pass by itself.
ENDS = ("empty", "held", "failure", "all-held")
SIGNS = {"good": "ok  ", "note": "note", "bad": "BAD "}


def follow(forge: Forge, run_id: str, *, quiet: bool = False) -> RunView:
    """Show a run until it is over and return it then. Ctrl+C stops it and keeps what it learned."""
    bar: Progress | None = None if quiet else Progress()
    cursor, asked = 0, False
    try:
        while True:
            over = forge.runs.state(run_id).is_over
            events, cursor = forge.runs.events(run_id, cursor)
            if bar is not None:
                for event in events:
                    bar.show(event)
            if over:
                break
            forge.tend()
            asked = _wait(forge, run_id, asked)
    finally:
        if bar is not None:
            bar.close()
    view = forge.runs.view(run_id)
    if not quiet:
        aid = forge.diagnosis
        cause, verdict = aid.cause(run_id), aid.verdict(run_id)
        print_run(view, forge.runs.folder(run_id).path, cause=cause, verdict=verdict)
    return view


def follow_queue(forge: Forge, *, quiet: bool = False) -> list[RunView]:
    """Start what waits, one after the other, and return how each run was when it was over.

    Ends when nothing waits that could start by itself. Ctrl+C stops the run that goes on, and
    twice leaves the queue.
    """
    over: list[RunView] = []
    told = ""
    while True:
        run_id = forge.queue.start_next() or forge.runs.active()
        if run_id is not None:
            over.append(follow(forge, run_id, quiet=quiet))
            continue
        view = forge.queue.view()
        if view.why != told and view.code and not quiet:
            told = view.why
            tqdm.write(view.why)
        if view.code in ENDS:
            return over
        time.sleep(TICK_S)


def _wait(forge: Forge, run_id: str, asked: bool) -> bool:
    try:
        time.sleep(TICK_S)
    except KeyboardInterrupt:
        if asked:
            raise
        forge.runs.stop(run_id, keep=True)
        tqdm.write("Stopping after this update; what it learned is kept. Ctrl+C again leaves it.")
        return True
    return asked


class Progress:
    """Draws the events of one run as lines and a bar."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._phase = ""

    def show(self, event: EventRecord) -> None:
        """Draw one event."""
        data = event.data
        if event.kind == "phase" and data["name"] != self._phase:
            self._phase = data["name"]
            tqdm.write(data["text"])
        elif event.kind == "plan":
            self._bar = tqdm(total=data["total_steps"], unit="update", dynamic_ncols=True)
        elif event.kind == "step" and self._bar is not None:
            self._bar.update(data["step"] - self._bar.n)
            self._bar.set_postfix_str(
                f"loss {data['loss']:.3f}, {data['tokens_per_s']:,.0f} tokens/s", refresh=False
            )
        elif event.kind == "eval":
            tqdm.write(f"held-out loss {data['loss']:.3f}{' (best so far)' * data['best']}")
        elif event.kind == "note":
            tqdm.write(data["text"])

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


def print_check(checked: PreflightResult) -> None:
    """Print problems, findings and the itemised memory."""
    for problem in checked.problems:
        print(f"problem   {plain(str(problem))}")
    report = checked.report
    if report is None:
        return
    for found in report.findings:
        where = f"{found.where}: " if found.where else ""
        print(f"{found.level:<9} {plain(f'{where}{found.what} {found.remedy}').rstrip()}")
    print("memory, traced" if report.memory_basis == "traced" else "memory, about")
    for part in report.memory:
        print(f"  {part.name:<12} {part.gib:6.2f} GiB")
    print(f"  {'together':<12} {report.memory_total_gib:6.2f} GiB")
    _print_levers(report)
    print("Ready to train." if checked.ready else "Not ready.")


def _print_levers(report: Report) -> None:
    """Print what makes the run quicker, and what would."""
    if not report.levers:
        return
    print(f"speed, about {report.tokens_per_s:,.0f} useful tokens/s")
    for lever in report.levers:
        answers = ", ".join(f"{name}={json.dumps(value)}" for name, value in lever.settings.items())
        pulled = "on" if lever.on else answers
        print(f"  {lever.label:<28} x{lever.times:4.2f} {lever.gib:+6.2f} GiB  {pulled}")
    if report.recommended:
        answers = " ".join(
            f"{name}={json.dumps(value)}" for name, value in report.recommended.items()
        )
        print(f"recommended together: {answers}")


def print_runs(page: Page) -> None:
    """Print runs in the order given, and how many more there are."""
    if not page.all:
        print("No runs yet. Start one with: modelforge demo")
    elif not page.total:
        print("No run matches.")
    for row in page.rows:
        when = datetime.fromtimestamp(row.created).astimezone().strftime("%Y-%m-%d %H:%M")
        loss = f"loss {row.loss:.3f}" if row.loss is not None else ""
        tags = " ".join(f"#{tag}" for tag in row.tags)
        line = f"{row.id}  {when}  {row.state:<9} {row.step:>5}  {row.name}  {loss}  {tags}"
        print(plain(line).rstrip())
    if page.rows and (more := page.total - len(page.rows)) > 0:
        print(f"{more:,} more.")


def print_comparison(compared: Comparison) -> None:
    """Print what came of runs, and what differs between them."""
    from modelforge.services.export_history import told

    for number, run in enumerate(compared.runs, start=1):
        held = f", held-out loss {told(run.eval_loss)}" if run.eval_loss is not None else ""
        made = f"{run.updates:,} updates, {run.tokens:,.0f} tokens in {run.seconds:,.0f} s"
        print(plain(f"{number}  {run.name} ({run.id}): {run.state}, {made}{held}"))
    for title, lines in (
        ("settings that differ", compared.settings),
        ("in effect", compared.effect),
        ("data", [line for line in compared.data if line.differs]),
        ("versions", compared.versions),
    ):
        if lines:
            print(title)
        for line in lines:
            values = "  |  ".join(told(value) for value in line.values)
            print(plain(f"  {line.name:<32} {values}"))
    if not any(line.differs for line in compared.data):
        print("All learned from the same data.")


def print_queue(view: QueueView) -> None:
    """Print what waits in which order, and why nothing of it starts now."""
    for run in view.runs:
        held = f"held {run.why_held}".rstrip() if run.held else ""
        when = f"after {run.when}" if run.when else ""
        about = ", ".join(part for part in (held, when) if part)
        print(plain(f"{run.position:>3}  {run.run}  {run.name}  {about}".rstrip()))
    print(plain(view.why) if view.why else "The next run is about to start.")
    print(f"After a failure the queue {'goes on' if view.go_on_after_failure else 'stops'}.")


def print_run(
    view: RunView, folder: Path, *, cause: Cause | None = None, verdict: Verdict | None = None
) -> None:
    """Print one run: its state, how it ended and why, how it went, where it lies."""
    print(f"{view.name}: {view.state}, update {view.step} of {view.total_steps or '?'}.")
    ending = view.ending or {}
    told = (cause.what, cause.remedy) if cause else (ending.get("what"), ending.get("remedy"))
    if told[0]:
        print(plain(f"{told[0]} {told[1] or ''}").rstrip())
    if cause and (cause.action or {}).get("settings"):
        print(f"Start it again with that: modelforge runs retry {view.id}")
    if verdict and ending.get("kind") != "failed":
        print(verdict.text)
    if view.eval_loss is not None:
        print(f"Held-out loss {view.eval_loss:.3f}.")
    print(f"The run lies in {folder}")


def print_doctor(rows: Sequence[CheckResult]) -> None:
    """Print the table of what is right and wrong."""
    width = max(len(row.name) for row in rows)
    for row in rows:
        print(f"{SIGNS[row.state]}  {row.name:<{width}}  {row.what}")
        if row.remedy:
            print(f"      {'':<{width}}  → {row.remedy}")
    sys.stdout.flush()


def plain(text: str) -> str:
    """Return `text` on one line, with control and direction marks written as escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(mark) for mark in text)


def _shown(mark: str) -> str:
    if mark == "\n":
        return "⏎"
    # Cc: controls; Cf: direction marks among them; Cs, Zl and Zp: what no terminal can show.
    if unicodedata.category(mark) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return mark.encode("unicode_escape", "surrogatepass").decode("ascii")
    return mark
