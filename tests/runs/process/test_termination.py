"""Runs are stopped for certain, with everything they started, and nobody else is touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from modelforge.errors import RunError
from modelforge.runs.atomic_files import read_json, write_json
from modelforge.runs.events import read_events
from modelforge.runs.process.identity import ProcessIdentity, wait_ended
from modelforge.runs.states import RunState


@pytest.mark.parametrize(("keep", "kept"), [(True, True), (False, False)])
def test_a_worker_that_is_asked_to_stop_stops(stage, run, keep, kept):
    supervisor = stage.started("obeys", run, stop_timeout_s=20.0)
    supervisor.stop(run, keep=keep)
    assert supervisor.state(run) in (RunState.STOPPING, RunState.STOPPED)
    stage.until_state(supervisor, run, RunState.STOPPED)
    assert read_events(run.events)[0][-1].data["kept"] is kept


def test_a_deaf_worker_and_its_child_are_ended_after_the_patience_runs_out(stage, run):
    supervisor = stage.started("deaf", run)
    note = stage.until(
        lambda: [event for event in read_events(run.events)[0] if event.kind == "note"], "a note"
    )
    child = ProcessIdentity.of(int(note[0].data["text"]))
    assert child.alive
    supervisor.stop(run)
    assert supervisor.state(run) is RunState.STOPPING
    stage.until_state(supervisor, run, RunState.STOPPED)
    assert wait_ended(child, 5.0)


def test_a_worker_that_is_saving_gets_more_time(stage, run):
    supervisor = stage.started("saves_slowly", run)
    stage.until(lambda: len(read_events(run.events)[0]) > 1, "a step")
    supervisor.stop(run)
    stage.until_state(supervisor, run, RunState.STOPPED)
    assert read_events(run.events)[0][-1].kind == "stopped"


def test_a_run_that_is_stopped_before_its_worker_speaks_is_stopped(stage, run):
    supervisor = stage.playing("mute")
    supervisor.start(run)
    supervisor.stop(run)
    stage.until_state(supervisor, run, RunState.STOPPED)


def test_a_queued_run_that_is_stopped_never_starts(stage, run):
    supervisor = stage.playing("obeys")
    supervisor.stop(run)
    assert supervisor.state(run) is RunState.STOPPED
    with pytest.raises(RunError):
        supervisor.start(run)
    assert not run.process.exists()


def test_a_late_stop_does_not_unfinish_a_run(stage, run):
    supervisor = stage.playing("finishes")
    supervisor.start(run)
    stage.until_state(supervisor, run, RunState.FINISHED)
    supervisor.stop(run)
    assert supervisor.state(run) is RunState.FINISHED
    assert not run.stop.exists()


def test_a_run_that_hangs_after_it_finished_has_finished_and_is_ended(stage, run):
    supervisor = stage.playing("lingers")
    supervisor.start(run)
    stage.until_state(supervisor, run, RunState.FINISHED)
    assert not stage.gone(run)

    def tended():
        supervisor.tend()
        return stage.gone(run)

    stage.until(tended, "its end")
    assert supervisor.state(run) is RunState.FINISHED


def test_a_run_that_hangs_after_it_finished_does_not_hold_up_the_next(stage, run):
    supervisor = stage.playing("lingers", exit_timeout_s=60.0)
    supervisor.start(run)
    stage.until_state(supervisor, run, RunState.FINISHED)
    stage.until(run.exit.exists, "its last act")
    following = stage.new_run()
    supervisor.start(following)
    assert stage.gone(run)
    stage.until_state(supervisor, following, RunState.FINISHED)
    stage.store.delete(following.id)
    assert stage.store.list() == [run]


def test_a_stop_that_a_dead_server_began_is_brought_to_its_end(stage, run):
    stage.started("deaf", run)
    run.stop.write_text("keep")
    long_ago = time.time() - 3600
    os.utime(run.stop, (long_ago, long_ago))
    second = stage.playing("deaf", stop_timeout_s=1.0)
    second.tend()
    stage.until_state(second, run, RunState.STOPPED)


def test_a_reused_process_id_is_lost_and_not_signalled(stage, run):
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(sleep, start_new_session=True) as stranger:
        record = ProcessIdentity.of(stranger.pid).as_dict()
        earlier = {"birth": record["birth"] - 3600, "start_ticks": 1}
        write_json(run.process, record | earlier)
        supervisor = stage.playing("obeys", stop_timeout_s=0.0, exit_timeout_s=0.0)
        assert supervisor.state(run) is RunState.LOST
        supervisor.stop(run)
        run.stop.write_text("discard")
        supervisor.tend()
        assert supervisor.state(run) is RunState.LOST
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
def test_the_children_of_a_worker_that_was_killed_are_ended(stage, run):
    supervisor = stage.started("leaves_a_child", run)
    note = stage.until(
        lambda: [event for event in read_events(run.events)[0] if event.kind == "note"], "a note"
    )
    child = ProcessIdentity.of(int(note[0].data["text"]))
    supervisor.tend()
    assert child.alive
    os.kill(read_json(run.process)["pid"], signal.SIGKILL)
    stage.until_state(supervisor, run, RunState.LOST)
    supervisor.tend()
    assert wait_ended(child, 5.0)
