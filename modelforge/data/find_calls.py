"""Find the tool calls in an answer, in the formats of chat templates.

A call counts where the runtimes of these templates would run it: behind its marker (Hermes, Qwen,
Mistral, Llama, DeepSeek, GLM, Granite, Phi, Command, Gemma, gpt-oss), or as an answer that is
nothing but the call. JSON in the middle of a sentence is not a call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelforge.data.json_answers import without_fence
from modelforge.data.untyped_calls import (
    ArgumentTypes,
    Calls,
    parse_gemma_call,
    parse_glm_call,
    parse_python_calls,
    parse_xml_calls,
)

# Start and end of a call, and what of the start belongs to the call. A tokenizer may leave out the
# end, so it may be missing.
_MARKERS = (
    ("<tool_call>", "</tool_call>", ""),
    ("<|tool_call|>", "<|/tool_call|>", ""),
    ("<|tool_call>", "<tool_call|>", ""),
    ("<function_call>", "</function_call>", ""),
    ("<start_function_call>", "<end_function_call>", ""),
    ("<TOOLCALL>", "</TOOLCALL>", ""),
    ("[TOOL_CALLS]", "</s>", ""),
    ("<|START_ACTION|>", "<|END_ACTION|>", ""),
    ("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", ""),
    ("<|tool_call_begin|>", "<|tool_call_end|>", ""),
    ("<|python_tag|>", "<|eom_id|>", ""),
    ("<|python_start|>", "<|python_end|>", ""),
    ("```tool_code", "```", ""),
    ("<function=", "</function>", "<function="),
    ("functools[", "<|", "["),
    ("Action: ```json", "```", ""),
)
_THOUGHTS = (("<think>", "</think>"), ("<|START_THINKING|>", "<|END_THINKING|>"))
_END_TAG = re.compile(r"<[|/｜]?[\w|｜▁]{1,30}>")
_LONGEST_END_TAG = 34
_JSON = re.compile(r"\{|\[\s*\{")
_NAMED = re.compile(
    r"(?:function<｜tool▁sep｜>|functions\.)?([\w.:-]{1,128}?)(?::\d{1,6})?\s*"
    r"(?:\[CALL_ID\]\w{1,40})?(?:\[ARGS\]|<｜tool▁sep｜>|<\|tool_call_argument_begin\|>)?\s*"
    r"(?:```json\s*)?(?=\{)"
)
_HARMONY = re.compile(
    r"to=functions\.([\w.-]{1,128})[^<>\n]{0,40}(?:<\|constrain\|>\s{0,3}\w{1,20}\s{0,3})?"
    r"<\|message\|>"
)
_DECODER = json.JSONDecoder()
_NAME_KEYS = ("name", "tool_name", "function")
_ARGUMENT_KEYS = ("arguments", "parameters", "args")
_LONGEST_ANSWER = 200_000


@dataclass(frozen=True)
class ToolCall:
    """Name and arguments of a call."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class FoundCalls:
    """The calls of an answer; `is_malformed` if it has the marker of a call that is not one."""

    calls: tuple[ToolCall, ...] = ()
    is_malformed: bool = False

    @property
    def is_call(self) -> bool:
        """Whether the answer calls a tool, or tries to."""
        return bool(self.calls) or self.is_malformed


def find_calls(answer: str, tools: Sequence[Mapping[str, Any]] = ()) -> FoundCalls:
    """Return the calls in an answer.

    Args:
        answer: text of the answer, with or without its special tokens.
        tools: the tools of the row. Formats without types (XML, Python) take the types and the
            order of arguments from them; a bare Python call is a call only of one of them.
    """
    text = _without_thoughts(answer[:_LONGEST_ANSWER]).strip()
    types = ArgumentTypes(argument_schemas(tools))
    try:
        calls = _marked_calls(text, types) or _bare_calls(text, types)
        for call in calls:
            call_key(call)  # refuses arguments that are nested too deeply to compare
    except (ValueError, RecursionError):
        return FoundCalls(is_malformed=True)
    return FoundCalls(tuple(calls))


def _marked_calls(text: str, types: ArgumentTypes) -> list[ToolCall]:
    """Return the calls behind their markers; raises ValueError if there is no call behind one."""
    harmony = [_call(match[1], _value(text, match.end())[0]) for match in _HARMONY.finditer(text)]
    if harmony:
        return harmony
    for start, end, kept in _MARKERS:
        if start in text:
            bodies = (kept + part.partition(end)[0].strip() for part in text.split(start)[1:])
            return [call for body in bodies for call in _calls_of_body(body, types)]
    return []


def _calls_of_body(body: str, types: ArgumentTypes) -> list[ToolCall]:
    """Return the calls between two markers; raises ValueError if there is none."""
    if _JSON.match(body):
        calls, rest = _json_calls(body, is_marked=True)
        if calls and not _without_end_tags(rest.strip("`")):
            return calls
    elif not body.startswith("call:") and (named := _NAMED.match(body)):
        return [_call(named[1], _value(body, named.end())[0])]
    return [_call(*pair) for pair in _parser(body, types)(body, types)]


def _parser(body: str, types: ArgumentTypes) -> Callable[[str, ArgumentTypes], Calls]:
    if "<function=" in body:
        return parse_xml_calls
    if "<arg_key>" in body or types.knows(body):
        return parse_glm_call
    return parse_gemma_call if body.startswith("call:") else parse_python_calls


def _bare_calls(text: str, types: ArgumentTypes) -> list[ToolCall]:
    """Return the calls of an answer that is nothing but calls, without a marker.

    JSON is a call if it has the keys of one; other formats only if the tools are known.
    """
    body = without_fence(_without_end_tags(text))
    try:
        if _JSON.match(body):
            calls, rest = _json_calls(body, is_marked=False)
            return [] if rest else calls
        calls = _calls_of_body(body, types)
    except (ValueError, RecursionError):
        return []
    return calls if all(types.knows(call.name) for call in calls) else []


def _without_end_tags(text: str) -> str:
    """Return a text without the special tokens and spaces at its end."""
    text = text.strip()
    while text.endswith(">"):
        start = text.rfind("<", max(0, len(text) - _LONGEST_END_TAG))
        if start < 0 or not _END_TAG.fullmatch(text, start):
            break
        text = text[:start].rstrip()
    return text


def _json_calls(text: str, is_marked: bool) -> tuple[list[ToolCall], str]:
    """Return the calls of the JSON values at the start of a text, and the text behind them.

    The values are separated by spaces, semicolons or commas. Values that are not calls give none.
    Behind a marker a name alone is a call without arguments.
    """
    values: list[Any] = []
    position = 0
    while position < len(text) and text[position] in "{[":
        value, position = _value(text, position)
        values += value if isinstance(value, list) else [value]
        while position < len(text) and text[position] in " \t\r\n;,":
            position += 1
    if len(values) == 1 and isinstance(values[0], dict):
        inner = values[0].get("tool_calls")
        values = inner if isinstance(inner, list) else values
    values = [_with_arguments(value) for value in values] if is_marked else values
    is_call = bool(values) and all(_is_call(value) for value in values)
    return ([call_of(value) for value in values] if is_call else []), text[position:]


def _value(text: str, position: int) -> tuple[Any, int]:
    """Return the JSON value at a position, and the position behind it; raises ValueError."""
    while position < len(text) and text[position].isspace():
        position += 1
    return _DECODER.raw_decode(text, position)


def _with_arguments(value: Any) -> Any:
    is_name = isinstance(value, dict) and len(value) == 1 and isinstance(value.get("name"), str)
    return {**value, "arguments": {}} if is_name else value


def _is_call(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    function = value.get("function")
    if isinstance(function, dict):
        return _is_call(function)
    names = [key for key in _NAME_KEYS if isinstance(value.get(key), str)]
    return bool(names) and any(key in value for key in _ARGUMENT_KEYS)


def call_of(value: Mapping[str, Any]) -> ToolCall:
    """Return the call of an object with a name and arguments, which may be in `function`.

    Raises:
        ValueError: the arguments are not an object.
    """
    function = value.get("function")
    if isinstance(function, Mapping):
        return call_of(function)
    name = next(value[key] for key in _NAME_KEYS if isinstance(value.get(key), str))
    return _call(name, next((value[key] for key in _ARGUMENT_KEYS if key in value), {}))


def _call(name: str, arguments: Any) -> ToolCall:
    if isinstance(arguments, str):
        arguments = json.loads(arguments) if arguments.strip() else {}
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping) or not name.strip():
        raise ValueError("a call without a name or with arguments that are not an object")
    return ToolCall(name.strip(), arguments)


def call_key(call: ToolCall) -> str:
    """Return a text that is equal for equal calls: numbers by value, but true is not 1."""
    return json.dumps([call.name, _plain(call.arguments)], sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def argument_schemas(tools: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the properties of each tool by its name."""
    schemas = {}
    for tool in tools:
        function = tool.get("function", tool)
        parameters = function.get("parameters") or {}
        properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
        schemas[str(function.get("name"))] = properties if isinstance(properties, Mapping) else {}
    return schemas


def _without_thoughts(text: str) -> str:
    """Return an answer without its reasoning; reasoning that does not end leaves nothing."""
    for start, end in _THOUGHTS:
        text = text.rpartition(end)[2] if end in text else text.partition(start)[0]
    return text
