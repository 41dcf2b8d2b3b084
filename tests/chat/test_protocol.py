"""Errors of the chat process as people read them."""

from __future__ import annotations

import json

import pytest

from modelforge.chat.protocol import _problem_of
from modelforge.chat.requests import StopTexts, parse
from modelforge.errors import Problem


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ModuleNotFoundError("No module named 'x'\nmore"), "No module named 'x'."),
        (ValueError(""), "could not answer: ValueError."),
        (RuntimeError("CUDA out of memory"), "out of memory"),
    ],
)
def test_a_failure_names_its_cause_and_where_to_look(error, text):
    problem = _problem_of(error)
    assert text in problem.what
    assert "\n" not in problem.what
    assert problem.remedy


@pytest.mark.parametrize(
    ("pieces", "stops", "wanted", "found"),
    [
        (["Hello", " world"], [], "Hello world", False),
        (["Hel", "lo wo", "rld"], ["lo w"], "Hel", True),
        (["a", "b", "a", "b", "c"], ["abc"], "ab", True),
        (["a", "b", "a", "b"], ["abc"], "abab", False),
        (["one two"], ["two", "one"], "", True),
        (["xENDyEND"], ["END"], "x", True),
        (["x<", "|e", "|"], ["<|end|>", "<|e|"], "x", True),
        (["STOP", "more"], ["STOP"], "", True),
    ],
)
def test_a_text_ends_before_the_first_stop_text(pieces, stops, wanted, found):
    texts = StopTexts(stops)
    shown = "".join([*(texts.feed(piece) for piece in pieces), texts.rest()])
    assert (shown, texts.found) == (wanted, found)


@pytest.mark.parametrize(
    "more",
    [
        {"seed": -1},
        {"seed": 1.5},
        {"stop_texts": "x"},
        {"stop_texts": [""]},
        {"stop_texts": ["x"] * 9},
        {"prompt": 5},
        {"messages": []},
    ],
)
def test_a_wrong_request_is_a_problem(more):
    ask = {"messages": [{"role": "user", "content": "Hi"}], **more}
    assert isinstance(parse(json.dumps({"ask": ask})), Problem)


def test_a_prompt_needs_no_messages():
    request = parse(json.dumps({"ask": {"prompt": "Once", "seed": 3, "stop_texts": ["x"]}}))
    assert (request.messages, request.prompt) == ([], "Once")
    assert (request.sampling.seed, request.stop_texts) == (3, ("x",))
    assert isinstance(parse('{"ask": {"prompt": ""}}'), Problem)
