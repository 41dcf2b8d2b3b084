"""The queue on the Runs page: escaped text, states and buttons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.services.queue import QueuedRun, QueueView
from ui.pages.runs.queue import queue_card

RUN = QueuedRun(
    "20260101-000000-aaaa", "night", 1, False, "", None, "", 1.0, False, "models/starter",
    "C:\\data\\rows.jsonl",
)  # fmt: skip


def view(*runs, **more) -> QueueView:
    usual = {"held": False, "go_on_after_failure": True, "code": "", "why": "", "runs": list(runs)}
    return QueueView(**{**usual, **more})


def test_an_empty_queue_is_hidden_unless_it_is_held():
    assert queue_card(view(code="empty", why="Nothing waits.")) == ""
    assert "Release the queue" in queue_card(view(held=True, code="empty", why="Nothing waits."))


def test_method_and_data_are_named_as_on_the_train_page():
    shown = queue_card(view(replace(RUN, dataset="sample:brief", strategy="dpo")))
    assert "Starter · DPO · Short or rambling · queued" in shown


def test_names_are_escaped():
    shown = queue_card(view(replace(RUN, name="<img src=x>", held=True, why_held="<b>no</b>")))
    assert "<img src=x>" not in shown
    assert "<b>no" not in shown
    assert "&lt;img" in shown


def test_every_waiting_run_has_its_state():
    held = replace(RUN, run="b", position=2, held=True, why_held="No room.")
    later = replace(RUN, run="c", position=3, when="tomorrow 06:00", resumes=True)
    shown = queue_card(
        view(RUN, held, later, code="busy", why="The run 'x' is using this computer.")
    )
    for text in (
        "3 runs waiting", "The next run starts when this computer is free.", "No room.",
        "rows.jsonl", "after tomorrow 06:00", "resumes where it stopped", "Release night",
        "Hold night",
    ):  # fmt: skip
        assert text in shown, text
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
    assert button in queue_card(view(RUN, **more))


def test_the_first_and_the_last_run_cannot_move_further():
    one = queue_card(view(RUN))
    assert one.count('aria-disabled="true"') == 2
    two = queue_card(view(RUN, replace(RUN, run="b", position=2)))
    assert two.count('aria-disabled="true"') == 2
