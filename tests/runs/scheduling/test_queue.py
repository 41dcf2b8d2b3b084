"""Decisions of the queue, without processes: who is next, and why nobody is."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from modelforge.runs.scheduling.queue import (
    Queue,
    QueueEntry,
    WaitingRun,
    next_due,
    read_queue,
    reconcile,
    write_queue,
)
from modelforge.runs.scheduling.schedule_times import ClockReading
from modelforge.runs.states import RunState

NOW = ClockReading(1_800_000_000.0, 10.0)
HOUR = 3600.0


def waiting(*runs: str) -> dict[str, WaitingRun]:
    return {
        run: WaitingRun(run, f"the {run}", RunState.QUEUED, float(age))
        for age, run in enumerate(runs)
    }


def queue_of(*entries: QueueEntry | str, **more) -> Queue:
    return Queue(tuple(QueueEntry(one) if isinstance(one, str) else one for one in entries), **more)


def order(queue: Queue) -> list[str]:
    return [entry.run for entry in queue.order]


def test_the_first_that_is_due_is_next():
    queue = queue_of(
        QueueEntry("a", held=True), QueueEntry("b", start_after=NOW.now + HOUR), "c", "d"
    )
    assert next_due(queue, waiting("a", "b", "c", "d"), NOW).run == "c"


def test_a_run_waits_for_its_own_place_alone():
    runs = waiting("here", "there", "far")
    runs["there"] = replace(runs["there"], target="box")
    runs["far"] = replace(runs["far"], target="grid")
    queue = queue_of("here", "there", "far")
    assert next_due(queue, runs, NOW).run == "here"
    assert next_due(queue, runs, NOW, "busy").run == "there"
    assert next_due(queue, runs, NOW, "busy", {"box": "box is in use"}).run == "far"
    full = {"box": "box is in use", "grid": "grid is in use"}
    assert next_due(queue, runs, NOW, "", full).run == "here"
    decision = next_due(queue_of("there", "far"), runs, NOW, "busy", full)
    assert (decision.run, decision.code, decision.why) == (None, "busy", "box is in use")


@pytest.mark.parametrize(
    ("queue", "busy", "code", "words"),
    [
        (queue_of(), "", "empty", "No runs"),
        (queue_of(held=True), "", "empty", "until the queue is released"),
        (queue_of("a", held=True), "", "held", "held"),
        (queue_of("a", held=True, why_held="Look here."), "", "held", "Look here."),
        (queue_of("a"), "Chat holds the machine.", "busy", "Chat holds the machine."),
        (queue_of(QueueEntry("a", held=True)), "", "all-held", "held"),
        (queue_of(QueueEntry("a", start_after=NOW.now + HOUR)), "", "later", "starts after"),
        (queue_of("a", last="z", go_on_after_failure=False), "", "failure", "“the z” failed"),
    ],
)
def test_the_reason_why_nothing_starts_is_reported(queue, busy, code, words):
    failed = {"z": WaitingRun("z", "the z", RunState.FAILED)}
    decision = next_due(queue, waiting("a") | failed, NOW, busy)
    assert (decision.run, decision.code) == (None, code)
    assert words in decision.why


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.LOST])
def test_the_queue_goes_on_after_a_failure_unless_set_otherwise(state):
    standings = waiting("a") | {"z": WaitingRun("z", "z", state)}
    assert next_due(queue_of("a", last="z"), standings, NOW).run == "a"
    stopping = queue_of("a", last="z", go_on_after_failure=False)
    assert next_due(stopping, standings, NOW).run is None
    well = waiting("a") | {"z": WaitingRun("z", "z", RunState.STOPPED)}
    assert next_due(stopping, well, NOW).run == "a"
    assert next_due(stopping, waiting("a"), NOW).run == "a", "its folder was deleted"


def test_a_clock_set_back_makes_no_entry_wait_longer_than_scheduled():
    queued = QueueEntry("a", start_after=NOW.now + HOUR, set_at=NOW.now)
    years_ago = NOW.now - 5 * 365 * 24 * HOUR
    assert not queued.is_due(ClockReading(years_ago, HOUR - 1))
    assert queued.is_due(ClockReading(years_ago, HOUR + 1))
    assert not queued.is_due(ClockReading(NOW.now + 1, 10 * HOUR)), (
        "a clock that is right decides alone"
    )


def test_entries_of_runs_that_no_longer_wait_fall_out():
    gone = {
        "b": WaitingRun("b", "b", RunState.RUNNING),
        "c": WaitingRun("c", "c", RunState.STOPPED),
    }
    assert order(reconcile(queue_of("c", "a", "b", "deleted"), waiting("a") | gone)) == ["a"]


def test_runs_without_a_place_come_last_the_oldest_first():
    kept = reconcile(queue_of("c"), waiting("old", "older-than-c", "c", "young"))
    assert order(kept) == ["c", "old", "older-than-c", "young"]


def test_an_entry_that_stands_twice_counts_once():
    assert order(reconcile(queue_of("a", "b", "a"), waiting("a", "b"))) == ["a", "b"]


def test_a_stopped_run_waits_until_it_is_resumed():
    entry = QueueEntry("a", resumes=100.0)
    stopped = {"a": WaitingRun("a", "a", RunState.STOPPED, launched=100.0)}
    assert order(reconcile(queue_of(entry), stopped)) == ["a"]
    again = {"a": WaitingRun("a", "a", RunState.STOPPED, launched=200.0)}
    assert order(reconcile(queue_of(entry), again)) == []
    done = {"a": WaitingRun("a", "a", RunState.FINISHED, launched=100.0)}
    assert order(reconcile(queue_of(entry), done)) == []


@pytest.mark.parametrize(
    ("position", "expected"), [(1, "cab"), (2, "acb"), (3, "abc"), (99, "abc"), (-5, "cab")]
)
def test_a_run_is_moved_to_a_position(position, expected):
    assert "".join(order(queue_of("a", "b", "c").moved("c", position))) == expected


def test_a_queue_survives_the_disk(tmp_path):
    queue = queue_of(
        QueueEntry("a", True, "No room.", 5.0, 4.0), QueueEntry("b", resumes=3.0),
        held=True, why_held="why", go_on_after_failure=False, last="z",
    )  # fmt: skip
    write_queue(tmp_path / "queue.json", queue)
    assert read_queue(tmp_path / "queue.json") == queue
    assert read_queue(tmp_path / "none.json") == Queue()


@pytest.mark.parametrize("bytes_", [b"", b"{", b"[1]", b"\xff\xfe", b'{"order"', b"null"])
def test_a_damaged_file_holds_the_queue_and_loses_no_run(tmp_path, bytes_):
    path = tmp_path / "queue.json"
    path.write_bytes(bytes_)
    queue = reconcile(read_queue(path), waiting("a", "b"))
    assert order(queue) == ["a", "b"]
    decision = next_due(queue, waiting("a", "b"), NOW)
    assert decision.code == "held"
    assert "could not be read" in decision.why


def test_damaged_entries_are_left_out_and_the_others_stay(tmp_path):
    path = tmp_path / "queue.json"
    listed = [7, {"run": 3}, {"run": "b", "held": 1, "start_after": "x"}, None]
    path.write_text(json.dumps({"order": listed, "held": "no", "last": 4, "extra": 1}))
    assert read_queue(path) == queue_of("b")
