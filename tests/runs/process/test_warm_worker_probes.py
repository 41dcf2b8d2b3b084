"""A warm worker answers probes while it waits, and a run that starts comes first."""

from __future__ import annotations

import contextlib
import threading

import pytest

from modelforge.errors import BusyError, DataError, RunError
from modelforge.runs.atomic_files import read_json
from modelforge.runs.process.warm_worker import MAX_PROBES, WarmWorker
from modelforge.runs.states import RunState


@pytest.fixture
def gib():
    return {"free": 8.0}


@pytest.fixture
def warm(stage, gib):
    made = WarmWorker(stage.home, command=stage.actor("probed"), available_gib=lambda: gib["free"])
    yield made
    made.close()


def test_a_probe_is_answered_by_a_warm_worker_that_is_warmed_for_it(warm):
    assert warm.pid is None
    assert warm.ask({"kind": "echo", "row": 3}, 10)["echo"]["row"] == 3
    pid = warm.pid
    assert warm.ask({"kind": "echo"}, 10)
    assert warm.pid == pid


def test_progress_is_passed_on(warm):
    heard = []
    assert warm.ask({"kind": "progress"}, 10, heard.append)
    assert heard == [{"done": 1, "total": 2}, {"done": 2, "total": 2}]


def test_an_error_of_the_warm_worker_is_raised_and_the_next_is_answered(warm):
    with pytest.raises(DataError, match=r"row: There is no row 9\. Ask for another\."):
        warm.ask({"kind": "refuse"}, 10)
    assert warm.ask({"kind": "echo"}, 10)


def test_the_answer_to_another_probe_is_passed_over(warm):
    assert "echo" in warm.ask({"kind": "confuse"}, 10)


def test_a_warm_worker_that_dies_over_a_probe_is_replaced(warm):
    with pytest.raises(RunError, match="has ended"):
        warm.ask({"kind": "crash"}, 10)
    assert warm.ask({"kind": "echo"}, 10)


def test_an_answer_that_does_not_come_ends_the_warm_worker_and_a_new_one_answers(warm):
    assert warm.ask({"kind": "echo"}, 30)  # its start takes longer than the limit below
    with pytest.raises(RunError, match="not answer in time"):
        warm.ask({"kind": "hang"}, 0.6)
    assert warm.pid is None
    assert warm.ask({"kind": "echo"}, 10)


def test_without_memory_there_is_no_answer_and_the_reason_is_reported(warm, gib):
    gib["free"] = 2.0
    with pytest.raises(RunError, match=r"2\.0 GiB of memory are free"):
        warm.ask({"kind": "echo"}, 10)


def test_probes_wait_in_line(warm):
    answers = []

    def ask(number):
        answers.append(warm.ask({"kind": "echo", "row": number}, 10)["echo"]["row"])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == list(range(5))


def test_a_probe_that_finds_another_at_work_gives_up_in_words(warm):
    warm.ask({"kind": "echo"}, 10)

    at_work = threading.Event()

    def hang():
        with pytest.raises(RunError):
            warm.ask({"kind": "hang"}, 2.0, lambda _facts: at_work.set())

    first = threading.Thread(target=hang)
    first.start()
    assert at_work.wait(10)
    with pytest.raises(BusyError, match="Another request"):
        warm.ask({"kind": "echo"}, 0.3)
    first.join()


def test_only_a_few_probes_wait_and_the_others_are_refused_at_once(stage, warm):
    warm.ask({"kind": "echo"}, 10)

    def ask(kind, timeout_s):
        with contextlib.suppress(RunError, BusyError):
            warm.ask({"kind": kind}, timeout_s)

    waiting = [threading.Thread(target=ask, args=("hang", 3.0))]
    waiting += [threading.Thread(target=ask, args=("echo", 3.0)) for _ in range(MAX_PROBES - 1)]
    for thread in waiting:
        thread.start()
    stage.until(lambda: warm._places._value == 0, "the probes to wait")
    with pytest.raises(BusyError, match="Several requests"):
        warm.ask({"kind": "echo"}, 60)
    for thread in waiting:
        thread.join()


def test_a_run_takes_the_warm_worker_after_probes(stage, run, warm):
    warm.ask({"kind": "echo"}, 10)
    pid = warm.pid
    supervisor = stage.playing("obeys")
    supervisor.start(run, warm)
    record = read_json(run.process)
    assert (record["pid"], record["spare"]) == (pid, True)
    stage.until_state(supervisor, run, RunState.RUNNING)


def test_a_run_that_starts_during_a_probe_comes_first(stage, run, warm):
    warm.ask({"kind": "echo"}, 10)
    pid = warm.pid
    raised, at_work = [], threading.Event()

    def ask():
        try:
            warm.ask({"kind": "hang"}, 20, lambda _facts: at_work.set())
        except BusyError as error:
            raised.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    assert at_work.wait(10)
    supervisor = stage.playing("obeys")
    supervisor.start(run, warm)
    asking.join(5)
    assert [error.holder for error in raised] == [run.id]
    assert (read_json(run.process)["pid"], read_json(run.process)["spare"]) == (pid, True)
    stage.until_state(supervisor, run, RunState.RUNNING)
    assert warm.ask({"kind": "echo"}, 10)
