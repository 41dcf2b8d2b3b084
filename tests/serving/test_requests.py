"""Requests of the OpenAI API: what is read, ignored and refused."""

from __future__ import annotations

import json

import pytest

from modelforge.serving.requests import (
    MAX_TOKENS,
    ApiError,
    read_body,
    read_chat,
    read_completion,
)

HELLO = [{"role": "user", "content": "Hello"}]


def test_a_conversation_is_read_with_its_options():
    request = read_chat(
        {
            "model": "captain",
            "messages": [{"role": "developer", "content": "Be brief."}, *HELLO],
            "max_completion_tokens": 7,
            "max_tokens": 9,
            "temperature": 1,
            "top_p": 0.5,
            "seed": -1,
            "stop": "\n",
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    assert [each["role"] for each in request.messages] == ["system", "user"]
    assert (request.max_tokens, request.temperature, request.top_p) == (7, 1.0, 0.5)
    assert (request.stop, request.stream, request.include_usage) == (("\n",), True, True)
    assert 0 <= request.seed < 2**32
    assert request.is_chat


def test_parts_of_text_are_joined():
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    request = read_chat({"messages": [{"role": "user", "content": parts}]})
    assert request.messages[0]["content"] == "Hello"


def test_unknown_and_empty_fields_are_ignored():
    request = read_chat(
        {
            "messages": HELLO, "user": "me", "store": True, "a_field_of_next_year": {"x": 1},
            "n": 1, "tools": [], "stop": None, "seed": None, "max_tokens": None,
            "response_format": {"type": "text"}, "frequency_penalty": 0.0, "logprobs": False,
        }
    )  # fmt: skip
    assert (request.stop, request.seed, request.temperature) == ((), None, 0.0)


def test_a_limit_above_the_possible_is_lowered():
    assert read_chat({"messages": HELLO, "max_tokens": 10**9}).max_tokens == MAX_TOKENS


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("tools", [{"type": "function"}]),
        ("functions", [{"name": "f"}]),
        ("response_format", {"type": "json_object"}),
        ("logprobs", True),
        ("logit_bias", {"5": 100}),
        ("presence_penalty", 0.5),
        ("frequency_penalty", -1),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "x"}),
        ("n", "2"),
    ],
)
def test_what_would_change_the_reply_is_refused_in_words(field, value):
    with pytest.raises(ApiError, match=rf"{field} with this value is not supported\. \w+") as error:
        read_chat({"messages": HELLO, field: value})
    assert error.value.body["error"]["param"] == field
    assert error.value.status == 400


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", []),
        ("messages", "Hello"),
        ("messages", ["Hello"]),
        ("messages", [{"role": "tool", "content": "x"}]),
        ("messages", [{"role": ["user"], "content": "x"}]),
        ("messages", [{"role": "user"}]),
        ("messages", [{"role": "user", "content": []}]),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]),
        ("messages", [{"role": "user", "content": [{"type": "text", "text": 5}]}]),
        ("max_tokens", 0),
        ("max_tokens", True),
        ("max_tokens", 1.5),
        ("temperature", 2.5),
        ("temperature", "hot"),
        ("temperature", float("nan")),
        ("top_p", 0),
        ("seed", 1.5),
        ("stop", ["a", "b", "c", "d", "e"]),
        ("stop", [5]),
        ("stop", "x" * 201),
        ("stream", "yes"),
        ("stream_options", [1]),
        ("model", 5),
    ],
)
def test_a_wrong_value_is_named(field, value):
    with pytest.raises(ApiError) as error:
        read_chat({"messages": HELLO, field: value})
    assert error.value.body["error"]["param"].startswith(field)
    assert error.value.body["error"]["type"] == "invalid_request_error"


def test_a_prompt_is_one_text():
    assert read_completion({"prompt": "Once"}).prompt == "Once"
    assert read_completion({"prompt": ["Once"]}).prompt == "Once"
    for prompt in ("", None, [], ["a", "b"], [1, 2], [[1, 2]], 5):
        with pytest.raises(ApiError, match="prompt"):
            read_completion({"prompt": prompt})
    for field, value in (("echo", True), ("suffix", "x"), ("best_of", 3), ("logprobs", 1)):
        with pytest.raises(ApiError, match="not supported"):
            read_completion({"prompt": "Once", field: value})


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"5", b'"x"', b"\xff", b"[" * 100_000, b'{"a": "\\ud800"}']
)
def test_a_body_that_is_no_object_is_refused(body):
    with pytest.raises(ApiError):
        read_body(body)


def test_an_object_is_a_body():
    assert read_body(json.dumps({"a": "ü"}).encode()) == {"a": "ü"}
