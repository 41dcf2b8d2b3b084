"""Measured time and memory of a run as the page, REST and the terminal show it."""

from __future__ import annotations

import json

import pytest

from modelforge.cli.main import main
from modelforge.runs.event_types import StartedEvent
from modelforge.runs.events import EventRecord, EventWriter
from modelforge.runs.progress.breakdown import breakdown
from modelforge.runs.progress.measured_events import MemoryBreakdownEvent, TimeBreakdownEvent
from modelforge.runs.timeline import Timeline
from tests.runs.homes import put_run


def timeline_of(*events):
    records = [EventRecord(n, float(n), kind, data) for n, (kind, data) in enumerate(events, 1)]
    return Timeline().add_all(records)


TIME = ("time_breakdown", {"step": 4, "parts": {"forward": 1.0, "data": 3.0, "new": 9.0}})
MEMORY = ("memory_breakdown", {"step": 4, "peak_gib": 2.0,
                               "parts": {"weights": 1.5, "activations": 0.5}})  # fmt: skip


def test_parts_stand_in_their_order_with_their_shares():
    measured = breakdown(timeline_of(TIME))
    assert [(part.name, part.share) for part in measured.time] == [("data", 0.75),
                                                                   ("forward", 0.25)]  # fmt: skip
    assert measured.time_step == 4
    assert not measured.memory


def test_the_estimate_stands_beside_what_was_measured():
    planned = [{"name": "weights", "gib": 1.4}, {"name": "activations", "gib": 0.2},
               {"name": "logits", "gib": 0.1}, {"name": "overhead", "gib": None}]  # fmt: skip
    measured = breakdown(timeline_of(MEMORY), planned)
    assert {part.name: part.estimated_gib for part in measured.memory} == {
        "weights": 1.4,
        "activations": pytest.approx(0.3),
    }
    assert measured.peak_gib == 2.0


def test_what_was_measured_before_a_resume_is_dropped():
    resumed = ("resumed", {"step": 2, "checkpoint": "checkpoint-2"})
    assert not breakdown(timeline_of(TIME, MEMORY, resumed)).is_measured


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELFORGE_HOME", str(tmp_path / "home"))
    folder = put_run(tmp_path / "home", 1)
    folder.events.unlink()
    report = {"memory": [{"name": "weights", "gib": 1.4}]}
    folder.preflight.write_text(json.dumps(report), encoding="utf-8")
    with EventWriter(folder.events) as events:
        events.write(StartedEvent(pid=1, birth=1.0))
        events.write(TimeBreakdownEvent(step=4, parts={"forward": 1.0, "data": 3.0}))
        events.write(MemoryBreakdownEvent(step=4, peak_gib=2.0, parts={"weights": 1.5}))
    return folder.id


def test_the_terminal_shows_it(run, capsys):
    assert main(["breakdown", run]) == 0
    shown = capsys.readouterr().out
    assert "Forward pass" in shown
    assert "25 %" in shown
    assert "estimated 1.40 GiB" in shown
    assert main(["breakdown", run, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["peak_gib"] == 2.0
    assert measured["time"][0] == {"name": "data", "label": "Data", "seconds": 3.0, "share": 0.75}


def test_a_run_without_measurements_says_how_to_get_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MODELFORGE_HOME", str(tmp_path / "home"))
    run = put_run(tmp_path / "home", 2).id
    assert main(["breakdown", run]) == 0
    assert "logging.time_breakdown" in capsys.readouterr().out
    assert main(["breakdown", "20260101-000000-ffff"]) != 0
