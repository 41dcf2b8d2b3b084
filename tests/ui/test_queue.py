"""The queue as the browser gets it: escaped, usable by keyboard, and silent while nothing waits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.errors import BusyError, Problem
from modelforge.services.queue import QueuedRun, QueueView
from ui.pages.runs import queue

RUN = QueuedRun(
    "20260101-000000-aaaa", "night", 1, False, "", None, "", 1.0, False, "models/starter",
    "C:\\data\\rows.jsonl",
)  # fmt: skip


def view(*runs, **more) -> QueueView:
    said = {"held": False, "go_on_after_failure": True, "code": "", "why": "", "runs": list(runs)}
    return QueueView(**{**said, **more})


def test_nothing_is_shown_while_nothing_waits():
    assert queue.card(view(code="empty", why="Nothing waits.")) == ""
    assert "Release the queue" in queue.card(view(held=True, code="empty", why="Nothing waits."))


def test_names_from_outside_are_text():
    shown = queue.card(view(replace(RUN, name="<img src=x>", held=True, why_held="<b>no</b>")))
    assert "<img src=x>" not in shown
    assert "<b>no" not in shown
    assert "&lt;img" in shown


def test_it_is_said_what_waits_and_for_what():
    held = replace(RUN, run="b", position=2, held=True, why_held="No room.")
    later = replace(RUN, run="c", position=3, when="tomorrow 06:00", resumes=True)
    shown = queue.card(view(RUN, held, later, code="busy", why="The run 'x' holds the machine."))
    for words in (
        "3 runs waiting", "The next run starts when it is free.", "No room.", "rows.jsonl",
        "after tomorrow 06:00", "goes on where it stopped", "Release night", "Hold night",
    ):  # fmt: skip
        assert words in shown, words
    assert "data\\" not in shown


@pytest.mark.parametrize(
    ("more", "button"),
    [
        ({}, "Hold the queue"),
        ({"held": True, "code": "held", "why": "x"}, "Release the queue"),
        ({"code": "failure", "why": "x"}, "Release the queue"),
    ],
)
def test_the_whole_queue_has_one_button(more, button):
    assert button in queue.card(view(RUN, **more))


def test_the_ends_of_the_order_move_no_further():
    one = queue.card(view(RUN))
    assert one.count('aria-disabled="true"') == 2
    two = queue.card(view(RUN, replace(RUN, run="b", position=2)))
    assert two.count('aria-disabled="true"') == 2


def test_a_busy_machine_is_told_so_that_the_queue_can_be_offered():
    def busy():
        raise BusyError(Problem("machine", "The run 'x' holds the machine.", "Wait."), "x")

    assert queue.offered(busy) == {"busy": "The run 'x' holds the machine. Wait."}
    assert queue.offered(lambda: "id") == {"run": "id"}
