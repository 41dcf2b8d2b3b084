"""50 answers made by hand, in the formats of chat templates, with the scores they must get."""

import json
import time
from typing import NamedTuple

import pytest
from jinja2 import Environment

from modelforge.data.find_calls import find_calls
from modelforge.evaluate.tool_calls import CallScore, score_calls
from modelforge.paths import resource_folder

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer", "default": 1},
                },
                "required": ["city"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "add",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
            },
        },
    },
    {"type": "function", "function": {"name": "get_time"}},
]


def call(name: str, **arguments: object) -> dict:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


ROME = call("get_weather", city="Rome")
SUM = call("add", a=2, b=3)
TIME = call("get_time")


class Case(NamedTuple):
    answer: str
    expected: list
    name: float | None
    arguments: float | None
    no_call: float | None = None


RIGHT, WRONG_ARGUMENTS, WRONG = (1, 1), (1, 0), (0, 0)
QUIET, CALLED = (None, None, 1), (None, None, 0)

CASES = {
    # Hermes and Qwen
    "hermes": Case(
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>',
        [ROME],
        *RIGHT,
    ),
    "hermes, text in front": Case(
        'I will look.\n<tool_call>{"name": "get_weather", "arguments": {"city": "Rome"}}'
        "</tool_call><|im_end|>",
        [ROME],
        *RIGHT,
    ),
    "hermes, thoughts in front": Case(
        '<think>Perhaps <tool_call>{"name": "add", "arguments": {}}</tool_call>?</think>\n'
        '<tool_call>{"name": "get_weather", "arguments": {"city": "Rome"}}</tool_call>',
        [ROME],
        *RIGHT,
    ),
    "hermes, two calls in the other order": Case(
        '<tool_call>{"name": "add", "arguments": {"a": 2, "b": 3}}</tool_call>\n'
        '<tool_call>{"name": "get_weather", "arguments": {"city": "Rome"}}</tool_call>',
        [ROME, SUM],
        *RIGHT,
    ),
    "hermes, the end tag was left out": Case(
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}', [ROME], *RIGHT
    ),
    "hermes, arguments as text": Case(
        '<tool_call>{"name": "add", "arguments": "{\\"a\\": 2, \\"b\\": 3}"}</tool_call>',
        [SUM],
        *RIGHT,
    ),
    "hermes, another city": Case(
        '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>',
        [ROME],
        *WRONG_ARGUMENTS,
    ),
    "hermes, another tool": Case(
        '<tool_call>{"name": "get_time", "arguments": {"city": "Rome"}}</tool_call>', [ROME], *WRONG
    ),
    "hermes, one call too many": Case(
        '<tool_call>{"name": "get_weather", "arguments": {"city": "Rome"}}</tool_call>'
        '<tool_call>{"name": "get_weather", "arguments": {"city": "Rome"}}</tool_call>',
        [ROME],
        *WRONG,
    ),
    "hermes, one call of two": Case(
        '<tool_call>{"name": "add", "arguments": {"a": 2, "b": 3}}</tool_call>', [ROME, SUM], *WRONG
    ),
    "hermes, JSON with single quotes": Case(
        "<tool_call>{'name': 'get_weather', 'arguments': {'city': 'Rome'}}</tool_call>",
        [ROME],
        *WRONG,
    ),
    "hermes, cut off": Case(
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Ro', [ROME], *WRONG
    ),
    "hermes, arguments are a list": Case(
        '<tool_call>{"name": "add", "arguments": [2, 3]}</tool_call>', [SUM], *WRONG
    ),
    "hermes, only in the thoughts": Case(
        '<think>{"name": "add"} <tool_call>{"name": "add", "arguments": {"a": 2, "b": 3}}'
        "</tool_call></think>It is 5.",
        [SUM],
        *WRONG,
    ),
    # Arguments
    "the default of the schema is written": Case(
        '<tool_call>{"name": "get_weather", "arguments": {"city": "Rome", "days": 1}}</tool_call>',
        [ROME],
        *RIGHT,
    ),
    "not the default": Case(
        '<tool_call>{"name": "get_weather", "arguments": {"city": "Rome", "days": 2}}</tool_call>',
        [ROME],
        *WRONG_ARGUMENTS,
    ),
    "a number as text": Case(
        '<tool_call>{"name": "add", "arguments": {"a": "2", "b": 3}}</tool_call>',
        [SUM],
        *WRONG_ARGUMENTS,
    ),
    "a number with a decimal point": Case(
        '<tool_call>{"name": "add", "arguments": {"b": 3.0, "a": 2}}</tool_call>', [SUM], *RIGHT
    ),
    "true is not 1": Case(
        '<tool_call>{"name": "add", "arguments": {"a": true, "b": 3}}</tool_call>',
        [call("add", a=1, b=3)],
        *WRONG_ARGUMENTS,
    ),
    "another case of letters": Case(
        '<tool_call>{"name": "get_weather", "arguments": {"city": "rome"}}</tool_call>',
        [ROME],
        *WRONG_ARGUMENTS,
    ),
    "nested arguments": Case(
        '{"name": "plan", "parameters": {"stops": [{"at": "Rome"}, {"at": "Oslo"}]}}',
        [call("plan", stops=[{"at": "Rome"}, {"at": "Oslo"}])],
        *RIGHT,
    ),
    "nested arguments in another order": Case(
        '{"name": "plan", "parameters": {"stops": [{"at": "Oslo"}, {"at": "Rome"}]}}',
        [call("plan", stops=[{"at": "Rome"}, {"at": "Oslo"}])],
        *WRONG_ARGUMENTS,
    ),
    "no arguments": Case('{"name": "get_time", "arguments": {}}', [TIME], *RIGHT),
    # Llama
    "llama": Case('{"name": "get_weather", "parameters": {"city": "Rome"}}', [ROME], *RIGHT),
    "llama, with its tag": Case(
        '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Rome"}}<|eom_id|>',
        [ROME],
        *RIGHT,
    ),
    "llama, two calls": Case(
        '{"name": "get_weather", "parameters": {"city": "Rome"}}; '
        '{"name": "add", "parameters": {"a": 2, "b": 3}}<|eot_id|>',
        [ROME, SUM],
        *RIGHT,
    ),
    "llama, Python calls": Case('[get_weather(city="Rome"), add(a=2, b=3)]', [ROME, SUM], *RIGHT),
    "llama, function tag": Case(
        '<function=get_weather>{"city": "Rome"}</function><|eot_id|>', [ROME], *RIGHT
    ),
    # Mistral
    "openai": Case(
        '{"tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", '
        '"arguments": "{\\"a\\": 2, \\"b\\": 3}"}}]}',
        [SUM],
        *RIGHT,
    ),
    "mistral": Case(
        '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Rome"}, "id": "VvvODy9mT"}]'
        "</s>",
        [ROME],
        *RIGHT,
    ),
    "mistral, since version 11": Case(
        '[TOOL_CALLS]get_weather[ARGS]{"city": "Rome"}[TOOL_CALLS]add[ARGS]{"a": 2, "b": 3}</s>',
        [ROME, SUM],
        *RIGHT,
    ),
    "mistral, without its special tokens": Case(
        ' [{"name": "get_weather", "arguments": {"city": "Rome"}}]', [ROME], *RIGHT
    ),
    # Others
    "granite and phi": Case(
        '<|tool_call|>[{"name": "add", "arguments": {"a": 2, "b": 3}}]<|/tool_call|><|end|>',
        [SUM],
        *RIGHT,
    ),
    "phi, functools": Case(
        'functools[{"name": "add", "arguments": {"a": 2, "b": 3}}]', [SUM], *RIGHT
    ),
    "command": Case(
        '<|START_THINKING|>add them<|END_THINKING|><|START_ACTION|>[{"tool_call_id": "0", '
        '"tool_name": "add", "parameters": {"a": 2, "b": 3}}]<|END_ACTION|>',
        [SUM],
        *RIGHT,
    ),
    "deepseek": Case(
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n"
        '{"a": 2, "b": 3}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>',
        [SUM],
        *RIGHT,
    ),
    "qwen coder": Case(
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n"
        "<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>",
        [call("get_weather", city="Rome", days=2)],
        *RIGHT,
    ),
    "glm": Case(
        "<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>2</arg_value>\n<arg_key>b</arg_key>\n"
        "<arg_value>3</arg_value>\n</tool_call>",
        [SUM],
        *RIGHT,
    ),
    "kimi": Case(
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0"
        '<|tool_call_argument_begin|>{"a": 2, "b": 3}<|tool_call_end|><|tool_calls_section_end|>',
        [SUM],
        *RIGHT,
    ),
    "gemma, Python": Case('```tool_code\nprint(get_weather(city="Rome"))\n```', [ROME], *RIGHT),
    "gemma, braces": Case(
        "<start_function_call>call:get_weather{city:<escape>Rome, the city<escape>,days:2}"
        "<end_function_call>",
        [call("get_weather", city="Rome, the city", days=2)],
        *RIGHT,
    ),
    "gpt-oss": Case(
        "<|channel|>analysis<|message|>Add.<|end|><|start|>assistant<|channel|>commentary "
        'to=functions.add <|constrain|>json<|message|>{"a": 2, "b": 3}<|call|>',
        [SUM],
        *RIGHT,
    ),
    "a code block": Case(
        '```json\n{"name": "add", "arguments": {"a": 2, "b": 3}}\n```', [SUM], *RIGHT
    ),
    # No call
    "nothing is called": Case("I have no tool for that.", [], *QUIET),
    "a call too many": Case(
        '<tool_call>{"name": "get_time", "arguments": {}}</tool_call>', [], *CALLED
    ),
    "a call that is malformed": Case("<tool_call>get the time</tool_call>", [], *CALLED),
    "JSON that is data": Case('{"name": "Rome", "people": 2800000}', [], *QUIET),
    "a call in a sentence": Case(
        'You could send {"name": "add", "arguments": {"a": 2, "b": 3}} to it.', [], *QUIET
    ),
    "text instead of a call": Case("It is sunny in Rome.", [ROME], *WRONG),
    "Python of an unknown tool": Case("sorted(a=2)", [], *QUIET),
}


def test_there_are_50_cases():
    assert len(CASES) == 50


@pytest.mark.parametrize("name", CASES)
def test_an_answer_gets_the_score_it_must_get(name):
    case = CASES[name]
    wanted = CallScore(*case[2:])
    assert score_calls(case.answer, case.expected, TOOLS) == wanted
    right = case.no_call if case.no_call is not None else case.arguments
    assert wanted.right == right


@pytest.mark.parametrize("name", ["llama3", "qwen"])
def test_what_a_shipped_template_writes_is_a_right_call(name):
    template = (resource_folder("assets") / "templates" / f"{name}.jinja").read_text("utf-8")
    expected = [call("get_weather", city='Rome "Roma"\nItaly', days=3)]
    messages = [
        {"role": "user", "content": "How is the weather?"},
        {"role": "assistant", "content": "", "tool_calls": expected},
    ]
    environment = Environment()
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, indent=indent)
    render = environment.from_string(template).render
    prompt = render(messages=messages[:1], tools=TOOLS, add_generation_prompt=True)
    answer = render(messages=messages, tools=TOOLS)[len(prompt) :]
    assert answer
    assert score_calls(answer, expected, TOOLS).right == 1
    assert score_calls(answer.replace("3", "4"), expected, TOOLS).right == 0


@pytest.mark.parametrize(
    "answer",
    [
        "<tool_call>" + "[" * 100_000,
        '<tool_call>{"name": "f", "arguments": ' + '{"a":' * 5_000 + "1" + "}" * 5_000 + "}",
        "<tool_call>" * 20_000,
        "<" * 100_000,
        "a(" * 9_000,
        "[TOOL_CALLS]" + "f" * 100_000,
        "call:" + "a" * 100_000,
        "to=functions." + "x" * 100_000,
        "<function=f>" * 10_000,
        " <a>" * 50_000,
        '<tool_call>{"name": "f", "arguments": {"a": 1' + "0" * 5_000 + "}}",
        "\\d(" + "'\\d'",
        '{"tool_calls": 5}',
        '{"tool_calls": [5, null]}',
        '{"function": {"name": 5, "arguments": {}}}',
        '<tool_call>{"name": " ", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "add", "arguments": null}</tool_call>',
        "<tool_call>5</tool_call>",
        "<tool_call></tool_call>",
        "<|python_tag|>import os",
        "```tool_code\nx = 1\n```",
        "functools[5]",
        "[TOOL_CALLS]add[ARGS]",
        "to=functions.add <|message|>[1]",
        "<start_function_call>call:add{a:<escape>2}<end_function_call>",
    ],
)
def test_no_answer_takes_long_or_raises(answer):
    start = time.process_time()
    assert score_calls(answer, [SUM], TOOLS).right == 0
    score_calls(answer, [])
    assert time.process_time() - start < 2


def test_positional_arguments_follow_the_order_of_the_schema():
    weather = call("get_weather", city="Rome", days=2)
    assert score_calls('[get_weather("Rome", 2)]', [weather], TOOLS).right == 1
    assert score_calls("add(2, 3)", [SUM], TOOLS).right == 1
    assert score_calls("add(2, 3, 4)", [SUM], TOOLS).right == 0
    assert score_calls("```tool_code\nother(2)\n```", [], TOOLS).no_call == 0


def test_a_name_alone_is_a_call_behind_a_marker_only():
    assert find_calls('<tool_call>{"name": "get_time"}</tool_call>').calls[0].arguments == {}
    assert not find_calls('{"name": "Ada"}').is_call


def test_untyped_text_takes_the_type_of_the_schema():
    text = "<function=get_weather><parameter=city>12</parameter></function>"
    assert dict(find_calls(text, TOOLS).calls[0].arguments) == {"city": "12"}
    assert dict(find_calls(text).calls[0].arguments) == {"city": 12}
    assert find_calls("<tool_call>get_time</tool_call>", TOOLS).calls[0].arguments == {}
