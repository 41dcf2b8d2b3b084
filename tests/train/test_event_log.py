"""What a worker says when the disk does not take it any more."""

from __future__ import annotations

import sys

import pytest

from modelforge.errors import Problem, RunError
from modelforge.runs.event_types import FinishedEvent
from modelforge.runs.events import EventWriter, read_events
from modelforge.train.event_log import EventLog


class Full(EventWriter):
    """A disk that is full until room is made."""

    room = False

    def write(self, event):
        if not self.room:
            raise RunError(Problem("events.jsonl", "The disk is full.", "Free some space."))
        return super().write(event)

    def make_room(self):
        self.room = True


def test_the_ending_uses_the_reserved_disk_space(tmp_path):
    with Full(tmp_path / "events.jsonl") as events:
        log = EventLog(events, make_room=events.make_room)
        log.end(FinishedEvent(steps=3), "Finished.")
    assert log.ended == "finished"
    assert [event.kind for event in read_events(tmp_path / "events.jsonl")[0]] == ["finished"]


def test_an_ending_that_cannot_be_written_is_not_recorded(tmp_path):
    with Full(tmp_path / "events.jsonl") as events:
        log = EventLog(events)
        with pytest.raises(RunError):
            log.end(FinishedEvent(steps=3), "Finished.")
    assert log.ended is None


def test_a_log_line_that_cannot_be_written_is_ignored(tmp_path, monkeypatch):
    class Unwritable:
        def write(self, _text):
            raise OSError(28, "No space left on device")

    with EventWriter(tmp_path / "events.jsonl") as events:
        monkeypatch.setattr(sys, "stdout", Unwritable())
        EventLog(events).line("anything")
