"""Tool calls in answers, as models write them."""

from __future__ import annotations

import pytest

from modelforge.data.tool_calls import MAX_CALLS, read_tool_calls

PARIS = {"name": "weather", "arguments": {"city": "Paris"}}


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>',
        'I look.\n<tool_call>{"name": "weather", "arguments": {"city": "Paris"}}',
        '{"name": "weather", "parameters": {"city": "Paris"}}',
        '<|python_tag|>{"name": "weather", "parameters": {"city": "Paris"}}',
        '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Paris"}}]',
        '```json\n{"name": "weather", "arguments": {"city": "Paris"}}\n```',
        '{"type": "function", "function": {"name": "weather", "arguments": {"city": "Paris"}}}',
        '<tool_call>{"name": "weather", "arguments": "{\\"city\\": \\"Paris\\"}"}</tool_call>',
    ],
)
def test_every_spelling_is_one_call(text):
    assert read_tool_calls(text) == [PARIS]


def test_several_calls_keep_their_order():
    one = '<tool_call>{"name": "a", "arguments": {}}</tool_call>'
    two = '<tool_call>{"name": "b"}</tool_call>'
    names = [call["name"] for call in read_tool_calls(f"{one}\n{two}")]
    assert names == ["a", "b"]
    assert len(read_tool_calls(one * 100)) == MAX_CALLS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It is 19 degrees.",
        '{"city": "Paris"}',
        '{"name": "Ada", "age": 36}',
        "[1, 2]",
        "[[" * 9,
    ],
)
def test_a_plain_answer_is_no_call(text):
    assert read_tool_calls(text) == []


def test_arguments_that_are_not_json_are_shown_as_they_are():
    text = '<tool_call>{"name": "weather", "arguments": {"city": }}</tool_call>'
    (call,) = read_tool_calls(text)
    assert call == {"name": "weather", "arguments": text[11:-12]}
    text = '<tool_call>{"name": "weather", "arguments": "Paris"}</tool_call>'
    assert read_tool_calls(text) == [{"name": "weather", "arguments": "Paris"}]
