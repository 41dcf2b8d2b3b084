"""Runs are started once, watched by anybody, and never lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from modelforge.errors import BusyError, RunError
from modelforge.runs import states
from modelforge.runs.atomic_files import read_json, write_json
from modelforge.runs.events import read_events
from modelforge.runs.process import supervisor as supervisor_module
from modelforge.runs.process.identity import ProcessIdentity
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.states import RunState, read_facts

posix = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")


def test_a_new_run_is_queued_and_holds_nothing(stage, run):
    supervisor = stage.playing("obeys")
    assert supervisor.state(run) is RunState.QUEUED
    assert supervisor.holder() is None


def test_a_run_that_waits_is_read_again_only_when_its_folder_has_changed(stage, run, monkeypatch):
    supervisor = stage.playing("obeys")
    reads = []

    def counted(folder):
        reads.append(folder.id)
        return read_facts(folder)

    monkeypatch.setattr(supervisor_module, "read_facts", counted)
    # A folder that has changed just now may change again with the same mtime.
    assert {supervisor.state(run) for _ in range(3)} == {RunState.QUEUED}
    assert len(reads) == 3
    long_ago = time.time() - 60
    os.utime(run.path, (long_ago, long_ago))
    assert {supervisor.state(run) for _ in range(3)} == {RunState.QUEUED}
    assert len(reads) == 4
    other = stage.playing("obeys")  # another server starts it
    other.start(run)
    assert supervisor.state(run).is_active


def test_a_worker_that_finishes_has_finished(stage, run):
    supervisor = stage.playing("finishes")
    supervisor.start(run)
    stage.until_state(supervisor, run, RunState.FINISHED)
    assert supervisor.holder() is None
    assert [event.n for event in read_events(run.events)[0]] == [1, 2, 3, 4, 5]


def test_a_worker_that_fails_leaves_its_cause(stage, run):
    supervisor = stage.playing("fails")
    supervisor.start(run)
    stage.until_state(supervisor, run, RunState.FAILED)
    assert read_events(run.events)[0][-1].data["cause"] == "out-of-memory"
    stage.until(lambda: stage.gone(run), "its end")
    assert "the traceback is here" in run.log.read_text()


def test_a_worker_that_vanishes_is_lost(stage, run):
    supervisor = stage.playing("vanishes")
    supervisor.start(run)
    stage.until_state(supervisor, run, RunState.LOST)
    assert supervisor.holder() is None


def test_a_worker_that_has_not_spoken_yet_is_starting(stage, run):
    supervisor = stage.playing("mute")
    supervisor.start(run)
    assert supervisor.state(run) is RunState.STARTING
    assert supervisor.holder() == run


def test_a_second_server_finds_the_run_the_first_one_started(stage, run):
    stage.started("obeys", run)
    second = stage.playing("obeys", stop_timeout_s=20.0)
    assert second.state(run) is RunState.RUNNING
    assert second.holder() == run
    second.stop(run)
    stage.until_state(second, run, RunState.STOPPED)


def test_a_second_run_is_refused_and_names_who_uses_the_computer(stage, run):
    supervisor = stage.started("obeys", run)
    second = stage.new_run()
    with pytest.raises(BusyError, match="a run") as caught:
        supervisor.start(second)
    assert caught.value.holder == run.id
    assert supervisor.state(second) is RunState.QUEUED


def test_a_run_that_was_started_is_left_alone_by_a_second_start(stage, run):
    supervisor = stage.started("obeys", run)
    before = read_json(run.process)
    supervisor.start(run)
    assert read_json(run.process) == before


def test_twenty_starts_at_once_make_one_run(stage):
    supervisors = [stage.playing("obeys") for _ in range(4)]
    gate = threading.Barrier(20)
    outcomes: list[str] = []

    def click(supervisor):
        gate.wait()
        try:
            with supervisor.claim():
                if supervisor.holder() is None:
                    supervisor.start(stage.new_run())
                    outcomes.append("started")
                else:
                    supervisor.start(stage.new_run())
        except BusyError:
            outcomes.append("refused")

    threads = [
        threading.Thread(target=click, args=(supervisors[number % 4],)) for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 19 + ["started"]
    launched = [run for run in stage.store.list() if run.process.exists()]
    assert len(launched) == 1


def test_twenty_starts_of_the_same_run_make_one_process(stage, run):
    threads = [
        threading.Thread(target=stage.playing("obeys").start, args=(run,)) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    supervisor = stage.playing("obeys")
    stage.until_state(supervisor, run, RunState.RUNNING)
    supervisor.stop(run)
    stage.until_state(supervisor, run, RunState.STOPPED)
    starts = [event for event in read_events(run.events)[0] if event.kind == "started"]
    assert len(starts) == 1


@posix
def test_a_server_killed_in_mid_run_takes_nothing_with_it(stage, run):
    command = stage.actor("server", str(stage.home.root), run.id)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout.readline() == b"started\n"
        first = stage.until(lambda: read_events(run.events)[0], "events")
        server.kill()
    seen = len(first)
    second = stage.playing("obeys", stop_timeout_s=20.0)
    assert second.holder() == run
    stage.until(lambda: len(read_events(run.events)[0]) > seen + 5, "more events")
    assert second.state(run) is RunState.RUNNING
    second.stop(run)
    stage.until_state(second, run, RunState.STOPPED)
    numbers = [event.n for event in read_events(run.events)[0]]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_server_that_died_before_it_recorded_the_process_finds_its_child(stage, run):
    stage.started("obeys", run)
    for record in (None, {"launching": time.time()}, {"launching": 0.0}):
        run.process.unlink(missing_ok=True)
        if record:
            write_json(run.process, record)
        assert stage.playing("obeys").state(run) is RunState.RUNNING
    second = stage.playing("obeys", stop_timeout_s=20.0)
    second.stop(run)
    stage.until_state(second, run, RunState.STOPPED)


def test_a_launch_that_came_to_nothing_is_lost_after_a_while(stage, run):
    supervisor = stage.playing("obeys")
    write_json(run.process, {"launching": time.time()})
    assert supervisor.state(run) is RunState.STARTING
    write_json(run.process, {"launching": time.time() - states.LAUNCH_S - 1})
    assert supervisor.state(run) is RunState.LOST
    assert supervisor.holder() is None


def dead_process() -> ProcessIdentity:
    child = subprocess.Popen([sys.executable, "-c", ""])
    who = ProcessIdentity.of(child.pid)
    child.wait()
    return who


def test_a_run_whose_server_died_before_its_worker_started_is_queued_again(stage, run):
    supervisor = stage.playing("obeys")
    launch = {"launching": time.time() - 5, "launcher": dead_process().as_dict(), "earlier": None}
    write_json(run.process, launch | {"launcher": ProcessIdentity.of(os.getpid()).as_dict()})
    supervisor.tend()
    assert supervisor.state(run) is RunState.STARTING  # its server still works on it
    write_json(run.process, launch | {"launching": time.time()})
    supervisor.tend()
    assert supervisor.state(run) is RunState.STARTING  # the worker may not be visible yet
    write_json(run.process, launch)
    supervisor.tend()
    assert supervisor.state(run) is RunState.QUEUED
    supervisor.start(run)
    stage.until_state(supervisor, run, RunState.RUNNING)
    supervisor.stop(run)
    stage.until_state(supervisor, run, RunState.STOPPED)


def test_a_resume_whose_server_died_before_its_worker_started_can_be_repeated(stage, run):
    supervisor = stage.playing("finishes")
    supervisor.start(run)
    stage.until_state(supervisor, run, RunState.FINISHED)
    stage.until(lambda: stage.gone(run), "its end")
    earlier = read_json(run.process)
    launch = {"launching": time.time() - 5, "launcher": dead_process().as_dict()}
    since = {"after": 5, "from": run.events.stat().st_size}
    write_json(run.process, launch | since | {"earlier": earlier})
    run.exit.unlink()  # as the launch does
    other = stage.playing("finishes")
    assert other.state(run) is RunState.STARTING
    other.tend()
    assert other.state(run) is RunState.FINISHED
    assert read_json(run.process) == earlier


@pytest.mark.parametrize("warm", [False, True])
def test_a_worker_whose_server_died_before_it_recorded_it_is_recorded(stage, run, warm):
    arguments = [] if warm else [str(run.path)]
    command = [sys.executable, "-c", "import time; time.sleep(60)", *arguments]
    worker = subprocess.Popen(command)
    launch = {"launching": time.time() - 5, "launcher": dead_process().as_dict()}
    if warm:
        launch["warm"] = ProcessIdentity.of(worker.pid).as_dict()
    write_json(run.process, launch)
    supervisor = stage.playing("obeys")
    supervisor.tend()
    record = read_json(run.process)
    assert (record["pid"], record["spare"]) == (worker.pid, warm)
    assert supervisor.state(run) is RunState.STARTING
    worker.kill()
    worker.wait()
    assert supervisor.state(run) is RunState.LOST


def test_an_event_file_that_lost_its_last_line_is_helped_by_the_last_act(stage, run):
    supervisor = stage.playing("finishes")
    supervisor.start(run)
    stage.until(run.exit.exists, "its last act")
    stage.until(lambda: stage.gone(run), "its end")
    run.events.write_bytes(run.events.read_bytes()[:-10])
    assert stage.playing("finishes").state(run) is RunState.FINISHED


def test_a_worker_that_cannot_be_started_leaves_the_run_as_it_was(stage, run):
    supervisor = Supervisor(stage.home, command=["/no/such/python"])
    with pytest.raises(RunError) as caught:
        supervisor.start(run)
    assert "/no/such/python" in caught.value.problems[0].what
    assert supervisor.state(run) is RunState.QUEUED
    assert supervisor.holder() is None


def test_a_log_that_cannot_be_written_is_reported_in_words(stage, run):
    run.log.mkdir()
    with pytest.raises(RunError) as caught:
        stage.playing("obeys").start(run)
    assert caught.value.problems[0].where == "worker.log"
    assert not run.process.exists()


def test_a_worker_has_its_own_session_and_no_terminal(stage, run):
    supervisor = stage.started("obeys", run)
    record = read_json(run.process)
    if os.name != "nt":
        assert os.getsid(record["pid"]) == record["pid"] != os.getsid(0)
    assert record["spare"] is False
    assert record["birth"] == pytest.approx(read_events(run.events)[0][0].data["birth"], abs=2)
    stage.until(lambda: run.log.read_text() == "working\n", "its words in the log")
    supervisor.stop(run)
    stage.until_state(supervisor, run, RunState.STOPPED)


def test_tokens_reach_the_worker_and_no_file(stage, run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    supervisor = stage.started("obeys", run)
    if sys.platform.startswith("linux"):
        pid = read_json(run.process)["pid"]
        assert b"HF_TOKEN=hf_secret" in Path(f"/proc/{pid}/environ").read_bytes()
    supervisor.stop(run)
    stage.until_state(supervisor, run, RunState.STOPPED)
    stage.until(lambda: stage.gone(run), "its end")
    for path in run.path.rglob("*"):
        assert b"hf_secret" not in path.read_bytes()


def test_old_runs_are_read_once(stage, monkeypatch):
    for number in range(100):
        folder = stage.home.runs / f"20260101-000000-{number:04x}"
        folder.mkdir(parents=True)
        (folder / "process.json").write_text('{"pid": 999999999, "birth": 1.0}')
        line = '{"n": 1, "t": 1.0, "kind": "finished", "data": {}}\n'
        (folder / "events.jsonl").write_text(line)
    supervisor = stage.playing("obeys")
    read = []
    monkeypatch.setattr(
        supervisor_module, "read_facts", lambda folder: read.append(folder) or read_facts(folder)
    )
    assert supervisor.holder() is None
    assert len(read) == 100
    assert supervisor.holder() is None
    supervisor.tend()
    assert len(read) == 100
