"""Words: numbers and times as people say them."""

import time

import pytest

from modelforge.errors import Finding
from modelforge.runs.states import RunState
from ui.html import format as words
from ui.pages.train.plan_panel import findings


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "–"), (0.4, "0 s"), (59.4, "59 s"), (60, "1 min"), (103, "1 min 43 s"),
     (2040, "34 min"), (7800, "2 h 10 min"), (7200, "2 h"), (200_000, "2 days 7 h")],
)  # fmt: skip
def test_a_duration_has_one_or_two_units(seconds, said):
    assert words.duration(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(2e-4, "2e-4"), (1.41e-5, "1.41e-5"), (0.03, "0.03"), (1, "1"), (0, "0"), (None, "–")],
)
def test_a_small_number_reads_as_people_type_it(value, said):
    assert words.small(value) == said


def test_an_estimate_says_that_it_is_one():
    assert words.roughly(20) == "under a minute"
    assert words.roughly(130) == "about 2 min"
    assert words.roughly(2040) == "about 34 min"


def test_a_moment_is_told_as_near_as_needed():
    now = time.mktime((2026, 11, 21, 12, 0, 0, 0, 0, -1))
    assert words.when(now - 3600, now) == "today 11:00"
    assert words.when(now - 86_400, now) == "yesterday 12:00"
    assert words.when(now - 400 * 86_400, now).endswith("2025")


def test_every_state_has_a_word_and_a_colour():
    assert len(RunState) == 8
    assert set(words.STATES) == {str(state) for state in RunState}


def test_a_model_is_named_without_its_owner():
    assert words.model("Qwen/Qwen3-0.6B") == "Qwen3-0.6B"
    assert words.model("starter") == "Starter"
    assert words.model("C:\\models\\mine") == "mine"


def test_a_changed_setting_is_told_by_its_label():
    told = findings(
        [Finding("note", "plan-changed", "9 is used instead of 20.", where="eval_steps")]
    )
    assert "Check every: 9 is used instead of 20." in told
