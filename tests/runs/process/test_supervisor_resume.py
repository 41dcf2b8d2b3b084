"""A run that is over is started once more, and what was said before is history."""

from __future__ import annotations

import subprocess
import time
from dataclasses import MISSING

import pytest

from modelforge.config.plan.make import Plan
from modelforge.errors import BusyError
from modelforge.runs.atomic_files import read_json, write_json
from modelforge.runs.event_types import (
    FailedEvent,
    NoteEvent,
    ResumedEvent,
    StartedEvent,
    StepEvent,
)
from modelforge.runs.events import EventWriter, newest_milestone, read_events
from modelforge.runs.states import RunState, read_facts
from modelforge.runs.view import view_run


def test_a_failed_run_starts_again_and_its_old_end_does_not_count(stage, run):
    failing = stage.playing("fails")
    failing.start(run)
    stage.until_state(failing, run, RunState.FAILED)
    stage.until(lambda: stage.gone(run), "its end")
    before = read_events(run.events)[0][-1].n
    again = stage.playing("mute")
    again.start(run, again=True)
    assert read_json(run.process)["after"] == before
    assert again.state(run) is RunState.STARTING
    assert stage.playing("mute").state(run) is RunState.STARTING
    assert not run.exit.exists()


def test_a_stopped_run_forgets_the_stop_request(stage, run):
    supervisor = stage.started("obeys", run)
    supervisor.stop(run)
    stage.until_state(supervisor, run, RunState.STOPPED)
    stage.until(lambda: stage.gone(run), "its end")
    supervisor.start(run, again=True)
    stage.until_state(supervisor, run, RunState.RUNNING)
    supervisor.stop(run)
    stage.until_state(supervisor, run, RunState.STOPPED)


def test_the_duration_of_a_run_is_that_of_all_its_workers_without_the_pauses(stage, run):
    failing, worked = stage.playing("fails"), 0.0
    for again in (False, True, True):
        failing.start(run, again=again)
        record = read_json(run.process)
        assert record["worked_before"] == pytest.approx(worked)
        stage.until_state(failing, run, RunState.FAILED)
        stage.until(lambda: stage.gone(run), "its end")
        worked += read_events(run.events)[0][-1].t - record["launched"]
    assert worked > 0


def test_a_finished_run_that_hangs_is_ended_before_it_starts_again(stage, run):
    hanging = stage.playing("lingers")
    hanging.start(run)
    stage.until_state(hanging, run, RunState.FINISHED)
    first = read_facts(run).process
    again = stage.playing("obeys")
    again.start(run, again=True)
    stage.until_state(again, run, RunState.RUNNING)
    assert not first.alive
    again.stop(run)
    stage.until_state(again, run, RunState.STOPPED)


def test_a_run_that_goes_on_is_not_started_again(stage, run):
    supervisor = stage.started("obeys", run)
    who = read_facts(run).process
    supervisor.start(run, again=True)
    assert read_facts(run).process == who
    other = stage.new_run()
    with pytest.raises(BusyError):
        supervisor.start(other, again=True)


def test_a_run_that_cannot_be_started_again_is_what_it_was(stage, run):
    failing = stage.playing("fails")
    failing.start(run)
    stage.until_state(failing, run, RunState.FAILED)
    stage.until(lambda: stage.gone(run), "its end")
    record = read_json(run.process)
    nobody = type(failing)(stage.home, command=["/nowhere/to/be/found"])
    with pytest.raises(Exception, match="cannot be started"):
        nobody.start(run, again=True)
    assert read_json(run.process) == record
    assert nobody.state(run) is RunState.FAILED


def test_a_second_worker_is_found_by_its_own_word_when_the_server_died_at_its_launch(stage, run):
    with EventWriter(run.events) as events:
        events.write(StartedEvent(pid=2**22 + 1, birth=1.0))
        events.write(FailedEvent(cause="x", what="x", remedy="x"))
    size = run.events.stat().st_size
    write_json(run.process, {"launching": time.time() - 60, "after": 2, "from": size})
    assert read_facts(run).state is RunState.LOST
    worker = subprocess.Popen([*stage.actor("obeys"), str(run.path)])
    stage.until(lambda: read_facts(run).state is RunState.RUNNING, "its word")
    assert read_facts(run).process.pid == worker.pid
    run.stop.write_text("keep")
    worker.wait()


def test_a_milestone_counts_only_after_the_newest_launch(tmp_path):
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as events:
        events.write(StartedEvent(pid=1, birth=1.0))
        events.write(FailedEvent(cause="x", what="x", remedy="x"))
        assert newest_milestone(path, 2) is None
        events.write(StartedEvent(pid=1, birth=1.0))
        assert newest_milestone(path, 2) == "started"
        events.write(NoteEvent(text="x" * 1_000_000))
        assert newest_milestone(path, 2) == "started"
        assert newest_milestone(path, 4) is None


def test_a_view_shows_the_step_that_was_gone_on_from_and_no_old_end(stage):
    names = (name for name, field in Plan.__dataclass_fields__.items() if field.default is MISSING)
    plan = {**dict.fromkeys(names), "changes": []}
    run = stage.new_run(plan=plan)
    with EventWriter(run.events) as events:
        events.write(StartedEvent(pid=1, birth=1.0))
        events.write(StepEvent(step=9, loss=1.0, total_steps=10))
        events.write(FailedEvent(cause="x", what="x", remedy="x"))
        assert view_run(run, RunState.FAILED).step == 9
        events.write(StartedEvent(pid=1, birth=1.0))
        assert view_run(run, RunState.RUNNING).ending is None
        events.write(ResumedEvent(step=5, stage=None, checkpoint="checkpoint-5", damaged=[]))
        view = view_run(run, RunState.RUNNING)
        assert (view.step, view.loss) == (5, None)
        events.write(StepEvent(step=6, loss=0.5, total_steps=12))
        view = view_run(run, RunState.RUNNING)
        assert (view.step, view.loss, view.total_steps) == (6, 0.5, 12)
