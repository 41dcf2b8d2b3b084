"""Events are written whole and read by a byte cursor."""

from __future__ import annotations

import json
import threading

import pytest

from modelforge.errors import RunError
from modelforge.runs.event_types import FinishedEvent, NoteEvent, StartedEvent, StepEvent
from modelforge.runs.events import EventWriter, first_event, newest_milestone, read_events


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def test_an_event_comes_back_as_it_was_written(path):
    with EventWriter(path) as events:
        written = events.write(NoteEvent(code="x", text="grün\nund\u2028blau"))
    assert read_events(path)[0] == [written]
    assert (written.n, written.kind) == (1, "note")


def test_the_cursor_gives_only_what_is_new(path):
    with EventWriter(path) as events:
        events.write(StartedEvent(pid=2, birth=1.0))
        first, cursor = read_events(path)
        assert read_events(path, cursor) == ([], cursor)
        events.write(StepEvent(step=1))
        second, end = read_events(path, cursor)
    assert [event.n for event in first + second] == [1, 2]
    assert end == path.stat().st_size


def test_a_half_written_line_waits_for_its_other_half(path):
    with EventWriter(path) as events:
        events.write(StepEvent(step=1))
    line = path.read_bytes()
    with path.open("ab") as file:
        file.write(line[:20])
    seen, cursor = read_events(path)
    assert len(seen) == 1
    assert cursor == len(line)
    with path.open("ab") as file:
        file.write(line[20:])
    assert len(read_events(path, cursor)[0]) == 1


@pytest.mark.parametrize(
    "bad",
    [
        b"not json",
        b"\xff\xfe",
        b"[1, 2]",
        b'{"n": 1}',
        b'{"n": "1", "t": 1, "kind": "step", "data": {}}',
        b"[" * 100_000,
        b"",
    ],
)
def test_a_line_that_is_no_event_is_passed_over(path, bad):
    with EventWriter(path) as events:
        events.write(StepEvent(step=1))
        with path.open("ab") as file:
            file.write(bad + b"\n")
        events.write(StepEvent(step=2))
    assert [event.data["step"] for event in read_events(path)[0]] == [1, 2]


def test_the_next_writer_numbers_on_and_does_not_stick_to_half_a_line(path):
    with EventWriter(path) as events:
        events.write(StepEvent(step=1))
        events.write(StepEvent(step=2))
    with path.open("ab") as file:
        file.write(b'{"n": 3, "t"')
    with EventWriter(path) as events:
        assert events.write(StepEvent(step=3)).n == 3
    assert [event.n for event in read_events(path)[0]] == [1, 2, 3]


def test_threads_do_not_mix_their_lines_or_share_a_number(path):
    with EventWriter(path) as events:
        threads = [
            threading.Thread(
                target=lambda: [events.write(NoteEvent(text="x" * 5000)) for _ in range(50)]
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [event.n for event in read_events(path)[0]] == list(range(1, 201))


def test_numbers_that_json_does_not_know_become_null(path):
    with EventWriter(path) as events:
        metrics = {"a": float("-inf"), "b": 1.5}
        events.write(StepEvent(step=1, loss=float("nan"), grad_norm=float("inf"), metrics=metrics))
    line = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert line["data"]["loss"] is None
    assert line["data"]["grad_norm"] is None
    assert line["data"]["metrics"] == {"a": None, "b": 1.5}


def test_there_are_no_events_before_the_file_is_there(path):
    assert read_events(path) == ([], 0)
    assert first_event(path) is None
    assert newest_milestone(path) is None


def test_the_newest_milestone_is_found_behind_a_megabyte_of_steps(path):
    with EventWriter(path) as events:
        events.write(StartedEvent(pid=2, birth=1.0))
        assert newest_milestone(path) == "started"
        events.write(NoteEvent(text="x" * 1_000_000))
        assert newest_milestone(path) == "started"
        events.write(FinishedEvent(steps=1))
        events.write(NoteEvent(text='"failed"'))
    assert newest_milestone(path) == "finished"


def test_a_cursor_past_the_end_gives_nothing(path):
    with EventWriter(path) as events:
        events.write(StepEvent(step=1))
    assert read_events(path, 10_000) == ([], 10_000)


def test_a_folder_that_is_gone_is_reported_in_words(tmp_path):
    with pytest.raises(RunError) as caught:
        EventWriter(tmp_path / "gone" / "events.jsonl")
    assert caught.value.problems[0].remedy
