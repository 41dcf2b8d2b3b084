"""Run folders of old versions are still read: state, view, metrics, timeline, verdict, page."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from modelforge.diagnosis.verdict import judge_run
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.event_types import ResumedEvent, StartedEvent, TrialRunEvent, UnknownEvent
from modelforge.runs.events import iter_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.progress.metrics import read_metrics
from modelforge.runs.states import RunState
from modelforge.runs.timeline import TimelineReader
from ui.pages.run.state import log_lines, progress_line

STORED = Path(__file__).parents[1] / "stored_runs"
V0_1 = STORED / "v0.1-b0bc2d7"
STORED_EVENTS = sorted(STORED.rglob("events.jsonl"))


def timeline_of(forge, run_id):
    reader = forge.runs.timeline(run_id)
    reader.poll()
    return reader.timeline


def test_the_run_of_the_first_release(tmp_path):
    home = Home(tmp_path)
    shutil.copytree(STORED / "run-v1", home.runs / "20261121-041537-6699")
    forge = Forge(home)
    (view,) = forge.runs.views()
    assert view.state is RunState.FINISHED
    assert view.name == "captain · starter"
    assert (view.step, view.total_steps) == (53, 53)
    assert view.plan.max_length == 256
    assert view.ending["kind"] == "finished"
    timeline = timeline_of(forge, view.id)
    assert timeline.stage.step == 53
    assert progress_line(timeline).startswith("step 53 of 53")
    assert "update 53" in forge.runs.log(view.id)


def test_the_stopped_and_resumed_run_of_v0_1(tmp_path):
    home = Home(tmp_path)
    shutil.copytree(V0_1 / "runs", home.runs)
    forge = Forge(home)
    (view,) = forge.runs.views()
    (row,) = forge.history.page().rows
    assert view.state is RunState.FINISHED
    assert (view.step, view.total_steps, row.step) == (8, 8, 8)
    assert view.eval_loss == row.eval_loss is not None
    assert view.ending["kind"] == row.ending["kind"] == "finished"
    timeline = timeline_of(forge, view.id)
    loss = timeline.stage.train["loss"]
    assert [step for step, _ in loss] == list(range(1, 9))
    assert [step for step, _ in timeline.stage.eval["loss"]] == [3, 6, 8]
    assert any("resumed from step 2" in line for line in log_lines(timeline))
    (stage,) = forge.history.curves(view.id).stages
    assert list(stage.train["loss"]) == list(loss)
    assert stage.length("seconds") > 0
    verdict = judge_run(RunFolder(home.runs / view.id).events)
    assert verdict is not None
    assert verdict.numbers["steps measured"] == 8


def test_the_trial_run_of_v0_1():
    (folder,) = (path for path in (V0_1 / "rehearsals").iterdir() if path.is_dir())
    reader = TimelineReader(folder / "events.jsonl")
    reader.poll()
    event = reader.timeline.newest(TrialRunEvent)
    assert event is not None
    assert event.peak_gib == 1.455
    assert reader.timeline.ending.trial_run is True
    assert reader.timeline.phase.name == "trial_run"


@pytest.mark.parametrize("path", STORED_EVENTS, ids=lambda path: path.parent.name)
def test_every_stored_event_is_typed(path):
    records = list(iter_events(path))
    assert records
    assert [record.n for record in records] == list(range(1, len(records) + 1))
    for record in records:
        assert not isinstance(record.event, UnknownEvent), record
        known = record.event.as_data()
        assert record.data.items() <= known.items(), record


def test_a_resumed_run_has_its_second_start(tmp_path):
    (path,) = (V0_1 / "runs").glob("*/events.jsonl")
    kinds = [type(record.event) for record in iter_events(path)]
    assert kinds.count(StartedEvent) == 2
    assert kinds.count(ResumedEvent) == 1
    assert read_metrics(path).as_dict()["stages"][0]["points"] == 8
