"""Formatting of numbers, durations, dates and states."""

import time

import pytest

from modelforge.config.fields import specs_by_name
from modelforge.errors import Finding
from modelforge.runs.states import RunState
from ui.html import components
from ui.html import format as fmt
from ui.pages.train.plan_panel import finding_list


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.4, "0 s"), (59.4, "59 s"), (60, "1 min"), (103, "1 min 43 s"),
     (2040, "34 min"), (7800, "2 h 10 min"), (7200, "2 h"), (200_000, "2 days 7 h")],
)  # fmt: skip
def test_a_duration_has_one_or_two_units(seconds, text):
    assert fmt.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(2e-4, "2e-4"), (1.41e-5, "1.41e-5"), (0.03, "0.03"), (1, "1"), (0, "0"), (None, "–")],
)
def test_a_small_number_has_an_exponent(value, text):
    assert fmt.compact(value) == text


@pytest.mark.parametrize(
    ("gib", "text"), [(2.61, "2.6"), (0.1, "0.1"), (0.0186, "19 MiB"), (1e-5, "1 MiB"), (0, "0.0")]
)
def test_a_small_part_of_the_memory_is_in_mib(gib, text):
    assert fmt.memory_part(gib) == text


def test_an_estimated_duration_is_marked():
    assert fmt.estimated_duration(20) == "under a minute"
    assert fmt.estimated_duration(130) == "about 2 min"
    assert fmt.estimated_duration(2040) == "about 34 min"
    assert fmt.estimated_duration(7800) == "about 2 h 10 min"


def test_an_uncertain_duration_is_a_range():
    assert fmt.estimated_duration(10, 30) == "under a minute"
    assert fmt.estimated_duration(20, 60) == "about 1 min"
    assert fmt.estimated_duration(120, 360) == "about 2 to 6 min"
    assert fmt.estimated_duration(1500, 4500) == "about 25 min to 1 h 15 min"
    assert fmt.estimated_duration(None, None) == "not known yet"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((71, 154), "71 of 154"),
        ((1200, 3000), "1,200 of 3,000"),
        ((12, None), "12"),
        ((1.42, 3.0, 1), "1.4 of 3"),
        ((0.85, None, 1), "0.8"),
        # 40 of 47 steps of an epoch: the trainer has 0.8511, the plan 0.85.
        ((0.8511, 0.85, 1), "0.85 of 0.85"),
        ((0.4255, 0.85, 1), "0.43 of 0.85"),
        ((1.3617, 1.36, 1), "1.4 of 1.4"),
        ((1.36, 1.3617, 1), "1.4 of 1.4"),
        ((120, 100), "100 of 100"),
    ],
)
def test_progress_is_rounded_like_its_total_and_never_beyond_it(values, text):
    assert fmt.progress(*values) == text


def test_a_progress_bar_ends_at_100_percent():
    assert 'aria-valuenow="100"' in components.progress("Steps", 1.004)
    assert "width:100.0%" in components.progress("Steps", 1.004)


def test_a_planned_duration_is_exact_only_where_it_is_measured():
    assert fmt.planned_duration(130, "trial_run") == "2 min 10 s"
    assert fmt.planned_duration(130, "last_run") == "2 min 10 s"
    assert fmt.planned_duration(130, "formula") == "about 2 min"
    assert fmt.planned_duration(None, None) == "not known yet"
    planned = fmt.planned_duration(130, "formula", None, 400)
    assert planned == "about 2 min, then about 7 min to evaluate it"
    assert fmt.time_left(130) == "2 min 10 s left"
    assert fmt.time_left(2) == "nearly done"


def test_a_date_is_relative_to_now():
    now = time.mktime((2026, 11, 21, 12, 0, 0, 0, 0, -1))
    assert fmt.date(now - 3600, now) == "today 11:00"
    assert fmt.date(now - 86_400, now) == "yesterday 12:00"
    assert fmt.date(now - 400 * 86_400, now).endswith("2025")


def test_every_state_has_a_label_and_a_tone():
    assert set(fmt.STATES) == {str(state) for state in RunState}
    assert all(label for label, _tone in fmt.STATES.values())


def test_a_model_name_has_no_owner():
    assert fmt.model_name("Qwen/Qwen3-0.6B") == "Qwen3-0.6B"
    assert fmt.model_name("starter") == "Starter"
    assert fmt.model_name("C:\\models\\mine") == "mine"


def test_a_changed_setting_is_named_by_its_label():
    text = finding_list(
        [Finding("note", "plan-changed", "9 is used instead of 20.", where="eval_steps")]
    )
    label = specs_by_name()["eval_steps"].label
    assert f"{label}: 9 is used instead of 20." in text


@pytest.mark.parametrize(("count", "text"), [(1, "1 core"), (8, "8 cores"), (None, "? cores")])
def test_cores_are_counted_in_words(count, text):
    assert fmt.cores(count) == text
