"""Rewards by rule, worked out by hand, and what is asked and expected in a row."""

from __future__ import annotations

import time

import pytest

from modelforge.modeling.errors import WorkerError
from modelforge.modeling.reward_rules import (
    MAX_SLOW_IN_A_ROW,
    PatternRule,
    exact_match,
    json_score,
    length_score,
)
from modelforge.modeling.tokenize.prompts import prompt_and_answer

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("answer", "expected", "worth"),
    [
        ("It is 4.", "It is 4.", 1),
        ("  it IS\n4. ", "It is 4.", 1),
        ("STRASSE", "straße", 1),
        ("It is 4", "It is 4.", 0),
        ("It is 4. Or 5.", "It is 4.", 0),
        ("", "It is 4.", 0),
    ],
)
def test_equal_answers_whatever_their_case_and_white_space(answer, expected, worth):
    assert exact_match(answer, expected) == worth


@pytest.mark.parametrize(
    ("answer", "worth"),
    [
        ("one two three four", 1),
        ("one two", 0.5),
        ("one two three four five six seven eight", 0.5),
        (" ".join(["word"] * 40), 0.1),
        ("", 0),
        (" \n ", 0),
    ],
)
def test_the_nearer_to_four_words_the_better(answer, worth):
    assert length_score(answer, 4) == pytest.approx(worth)


@pytest.mark.parametrize(
    ("answer", "worth"),
    [
        ('{"a": [1, 2.5, null, true]}', 1),
        (" [] \n", 1),
        ('```json\n{"a": 1}\n```', 1),
        ('```\n{"a": 1}\n```\n', 1),
        ('Here it is:\n```json\n{"a": 1}\n```', 0),
        ('{"a": 1} done', 0),
        ("{'a': 1}", 0),
        ('{"a": NaN}', 0),
        ('{"a": 1', 0),
        ("5", 0),
        ('"text"', 0),
        ("null", 0),
        ("", 0),
        ("[" * 5000, 0),
        ("[" + "9" * 5000 + "]", 0),
    ],
)
def test_only_a_whole_object_or_list_is_json(answer, worth):
    assert json_score(answer) == worth


def test_a_pattern_is_found_anywhere():
    digits = PatternRule(r"\d{2,}")
    assert digits("There are 42 of them") == 1
    assert digits("There are 4 2 of them") == 0
    assert PatternRule(r"(?i)yes$")("Oh YES") == 1


def test_a_pattern_that_would_take_for_ever_is_given_up():
    slow = PatternRule(r"^(a|aa)+$")
    endless = "a" * 60 + "b"
    began = time.monotonic()
    assert slow(endless) == 0
    assert time.monotonic() - began < 5
    assert slow.timeouts == 1
    assert slow("aaa") == 1
    for _ in range(MAX_SLOW_IN_A_ROW - 1):
        assert slow(endless) == 0
    with pytest.raises(WorkerError, match="longer than"):
        slow(endless)


@pytest.mark.parametrize("pattern", [None, "(open", "[a"])
def test_no_pattern_and_a_broken_one_are_refused(pattern):
    with pytest.raises(WorkerError) as refused:
        PatternRule(pattern)
    assert refused.value.problems[0].where == "trainer.reward_pattern"


def test_what_is_asked_and_expected_in_every_kind_of_row():
    ask, say = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}
    no = {"role": "assistant", "content": "No."}
    assert prompt_and_answer({"prompt": [ask], "chosen": [say], "rejected": [no]}) == ([ask], "So.")
    assert prompt_and_answer({"prompt": [ask], "completion": [say], "label": True}) == (
        [ask],
        "So.",
    )
    assert prompt_and_answer({"prompt": [ask], "completion": [no], "label": False}) == ([ask], "")
    assert prompt_and_answer({"messages": [ask, no, ask, say]}) == ([ask, no, ask], "So.")
    assert prompt_and_answer({"text": "Once."}) is None
