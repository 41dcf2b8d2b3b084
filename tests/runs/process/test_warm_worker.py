"""A spare takes a run over when it can; without one nothing changes but the wait."""

from __future__ import annotations

import os
import signal
import sys
import time

import psutil
import pytest

from modelforge.runs.atomic_files import read_json
from modelforge.runs.events import read_events
from modelforge.runs.process.warm_worker import WarmWorker
from modelforge.runs.states import RunState


@pytest.fixture
def world():
    """The clock and the free memory that a spare sees."""
    return {"now": 1000.0, "gib": 8.0}


@pytest.fixture
def waiting(stage, world):
    """Make spares that play a habit; they are ended after the test."""
    made = []

    def make(*habits: str) -> WarmWorker:
        spare = WarmWorker(
            stage.home,
            command=stage.actor("waits", *habits),
            clock=lambda: world["now"],
            available_gib=lambda: world["gib"],
        )
        made.append(spare)
        return spare

    yield make
    for spare in made:
        spare.close()
        assert spare.pid is None


def wait_ready(warm_worker: WarmWorker) -> None:
    deadline = time.monotonic() + 10.0
    while not warm_worker.ready:
        assert time.monotonic() < deadline, "the imports are not done"
        time.sleep(0.01)


def warmed(waiting, *habits) -> WarmWorker:
    spare = waiting(*habits)
    assert not spare.ready
    assert spare.warm()
    wait_ready(spare)
    return spare


def test_a_ready_warm_worker_becomes_the_worker_of_the_run(stage, run, waiting):
    spare = warmed(waiting)
    pid = spare.pid
    supervisor = stage.playing("obeys", stop_timeout_s=20.0)
    supervisor.start(run, spare)
    assert spare.pid is None
    record = read_json(run.process)
    assert (record["pid"], record["spare"]) == (pid, True)
    stage.until_state(supervisor, run, RunState.RUNNING)
    assert run.log.read_text() == "working\n"
    assert "imports are done" in (stage.home.logs / "spare.log").read_text()
    supervisor.stop(run)
    stage.until_state(supervisor, run, RunState.STOPPED)
    assert read_events(run.events)[0][-1].data["kept"] is True


def test_a_warm_worker_that_is_not_ready_leaves_the_cores_to_the_run(stage, run):
    spare = WarmWorker(stage.home, command=stage.actor("mute"), available_gib=lambda: 8.0)
    assert spare.warm()
    pid = spare.pid
    supervisor = stage.playing("obeys", stop_timeout_s=20.0)
    supervisor.start(run, spare)
    assert read_json(run.process)["spare"] is False
    assert spare.pid is None
    assert not psutil.pid_exists(pid)
    stage.until_state(supervisor, run, RunState.RUNNING)


def test_a_run_in_a_warm_worker_outlives_the_end_of_the_warm_worker(stage, run, waiting):
    spare = warmed(waiting)
    supervisor = stage.playing("obeys", stop_timeout_s=20.0)
    supervisor.start(run, spare)
    stage.until_state(supervisor, run, RunState.RUNNING)
    spare.close()
    assert spare.warm()
    wait_ready(spare)
    spare.close()
    assert supervisor.state(run) is RunState.RUNNING


def test_without_a_warm_worker_the_start_is_a_cold_one(stage, run, waiting):
    supervisor = stage.playing("obeys")
    supervisor.start(run, waiting())
    assert read_json(run.process)["spare"] is False
    stage.until_state(supervisor, run, RunState.RUNNING)


def test_a_warm_worker_that_died_while_waiting_is_replaced_by_a_cold_start(stage, run, waiting):
    spare = warmed(waiting)
    os.kill(spare.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    supervisor = stage.playing("obeys")
    supervisor.start(run, spare)
    assert read_json(run.process)["spare"] is False
    stage.until_state(supervisor, run, RunState.RUNNING)


@pytest.mark.parametrize("habit", ["drops", "stares"])
def test_a_warm_worker_that_does_not_take_the_run_is_replaced_by_a_cold_start(
    stage, run, waiting, monkeypatch, habit
):
    monkeypatch.setattr("modelforge.runs.process.warm_worker.HAND_OVER_TIMEOUT_S", 0.5)
    spare = warmed(waiting, habit)
    pid = spare.pid
    supervisor = stage.playing("obeys")
    supervisor.start(run, spare)
    assert read_json(run.process)["spare"] is False
    assert not psutil.pid_exists(pid)
    stage.until_state(supervisor, run, RunState.RUNNING)
    starts = [event for event in read_events(run.events)[0] if event.kind == "started"]
    assert len(starts) == 1


def test_a_warm_worker_that_ends_by_itself_is_noticed_and_warmed_again(stage, waiting):
    spare = waiting("dies")
    spare.warm()
    stage.until(lambda: not spare.ready and spare.pid is None, "its end to be noticed")
    assert spare.warm()


def test_a_warm_worker_that_cannot_import_is_not_tried_over_and_over(stage, world, waiting):
    spare = waiting("broken")
    assert spare.warm()
    stage.until(lambda: not spare.ready and spare.pid is None, "its end to be noticed")
    assert not spare.warm()
    world["now"] += 61
    assert spare.warm()


def test_warming_twice_keeps_the_one_warm_worker(waiting):
    spare = warmed(waiting)
    pid = spare.pid
    assert spare.warm()
    assert spare.pid == pid


def test_a_warm_worker_is_warmed_only_with_memory_to_spare(world, waiting):
    spare = waiting()
    world["gib"] = 2.9
    assert not spare.warm()
    assert spare.pid is None


def test_an_unused_warm_worker_retires(world, waiting):
    spare = warmed(waiting)
    pid = spare.pid
    world["now"] += 899
    spare.tend()
    assert spare.ready
    spare.warm()
    world["now"] += 899
    spare.tend()
    assert spare.ready
    spare.tend(world["now"] + 2)
    assert not spare.ready
    assert not psutil.pid_exists(pid)


def test_a_warm_worker_retires_when_memory_gets_short(world, waiting):
    spare = warmed(waiting)
    world["gib"] = 1.4
    spare.tend()
    assert not spare.ready


def test_a_command_that_is_not_there_gives_no_warm_worker(stage, world):
    spare = WarmWorker(stage.home, command=["/no/such/python"], available_gib=lambda: 8.0)
    assert not spare.warm()
    assert not spare.ready
    spare.tend()
    spare.close()


def test_the_worker_gets_the_variables_of_this_machine(stage, tmp_path):
    seen = tmp_path / "seen"
    shows = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(os.environ['ONE_GPU'])"
    command = [sys.executable, "-c", shows, str(seen)]
    spare = WarmWorker(
        stage.home,
        command=command,
        environment=lambda: {"ONE_GPU": "GPU-bb"},
        available_gib=lambda: 8.0,
    )
    assert spare.warm()
    deadline = time.monotonic() + 10
    while not (seen.exists() and seen.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    spare.close()
    assert seen.read_text() == "GPU-bb"
