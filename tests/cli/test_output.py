"""Tables and escaping of untrusted text."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace

import pytest

from modelforge.cli import output
from modelforge.cli.follow import RunProgress
from modelforge.cli.output import escape_control, print_table
from modelforge.runs.events import EventRecord
from modelforge.runs.progress.growth import Growth, GrowthStage
from tests.preflight.contexts import make_context, report_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain words", "plain words"),
        ("über 中文 🙂", "über 中文 🙂"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("one\ntwo\r\x07", "one⏎two\\r\\x07"),
        ("safe\u202etxt.exe", "safe\\u202etxt.exe"),
        ("half \ud800 pair", "half \\ud800 pair"),
    ],
)
def test_control_characters_are_escaped(text, escaped):
    assert escape_control(text) == escaped


def test_a_table_without_a_terminal_is_plain_text(capsys):
    print_table([("finished", "a" * 300), ("x", "[red]b[/red]\x1b[2J")], ["state", "name"])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "state     name",
        f"finished  {'a' * 300}",
        "x         [red]b[/red]\\x1b[2J",
    ]


def test_a_table_on_a_terminal_is_styled_and_markup_is_not_interpreted(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    output.print_table([("finished", "[bold]name[/bold]")])
    text = terminal.getvalue()
    assert "\x1b[32mfinished" in text
    assert "[bold]name[/bold]" in text


def event(kind: str, **data) -> EventRecord:
    return EventRecord(1, 0.0, kind, data)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(is_terminal, monkeypatch):
    stream = Terminal() if is_terminal else io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    left = iter((None, 130.0))
    progress = RunProgress(lambda: next(left))
    progress.show(event("phase", name="loading", text="Loading [bold]m[/bold]\x1b[2J"))
    progress.show(event("plan", total_steps=2))
    progress.show(event("step", step=1, loss=2.0, tokens_per_s=10.0))
    progress.show(event("eval", loss=1.5, best=True))
    progress.show(event("step", step=2, loss=1.0, tokens_per_s=10.0))
    progress.close()
    text = stream.getvalue()
    assert "Loading [bold]m[/bold]\\x1b[2J" in text
    assert "Evaluation loss 1.500 (best so far)" in text
    assert "2/2" in text if is_terminal else "Step 2 of 2: loss 1.000" in text
    assert "10 tokens/s, 2 min 10 s left" in text
    assert ("\x1b" in text) is is_terminal


def test_a_time_that_no_run_has_confirmed_is_printed_as_a_range(capsys):
    report = replace(report_of(make_context()), seconds=120.0, seconds_longest=360.0)
    checked = SimpleNamespace(problems=[], report=replace(report, tokens_per_s=90.0), ready=True)
    output.print_check(checked)
    printed = capsys.readouterr().out
    assert "about 2 to 6 min (no run has measured the speed of this computer)" in printed
    assert "Speed, about 30 to 90 tokens/s" in printed
    known = replace(report, seconds_basis="earlier_runs", seconds_longest=None, tokens_per_s=40.0)
    output.print_check(SimpleNamespace(problems=[], report=known, ready=True))
    printed = capsys.readouterr().out
    assert "about 2 min\n" in printed
    assert "Speed, about 40 tokens/s" in printed


def test_the_stages_of_a_grown_run_are_listed_with_what_was_measured(capsys):
    common = {"layers": 5, "new": [4], "trained": [4], "frozen": [0, 1, 2, 3], "adapters": {}}
    common |= {"steps": 10, "memory_gib": 1.5, "planned_seconds": 90.0}
    measured = {"step": 10, "eval_loss": 2.25, "peak_gib": 1.2, "seconds": 61.0}
    stages = [
        GrowthStage(number=1, name="Stack 1 of 2", state="done", **common, **measured),
        GrowthStage(number=2, name="Stack 2 of 2", state="to-come", **common),
    ]
    output._print_growth(SimpleNamespace(growth=Growth(stages=stages)))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "1 Stack 1 of 2 done 10 of 10 2.250 1.2 GiB 1 min 1 s" in lines
    assert "2 Stack 2 of 2 to-come 0 of 10 1.5 GiB planned 1 min 30 s planned" in lines


def test_the_stages_of_a_growing_model_are_listed(capsys):
    context = make_context().with_settings(
        {"adapter.enabled": False, "progressive.enabled": True, "progressive.steps_per_stage": 7}
    )
    checked = SimpleNamespace(
        report=report_of(context), problems=[], plan=context.plan, ready=True, errors=[]
    )
    output.print_check(checked)
    lines = capsys.readouterr().out.splitlines()
    stages = [" ".join(line.split()) for line in lines if "Stack" in line]
    assert stages[0].startswith("Stack 1 of 2 31 layers 3.70 M trained 7 steps 1.")
    assert len(stages) == 2
