"""Content lists of Gemini, Bedrock and Anthropic: calls, results and reasoning among the texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from modelforge.data.canonical.cells import CONTENT_KEYS, parse_cell, part_text

# The key of a part that is a tool call: of Gemini, of Bedrock. Anthropic names it in `type`.
_CALLS = ("functionCall", "function_call", "toolUse")
_RESULTS = ("functionResponse", "function_response", "toolResult")
_ANTHROPIC = {"tool_use": "toolUse", "tool_result": "toolResult"}
_SPECIAL = frozenset({*_CALLS, *_RESULTS, "reasoningContent", "thought"})
_TYPES = frozenset({*_ANTHROPIC, "thinking"})


class _Parts(NamedTuple):
    """The parts of a content list, by what they are."""

    rest: list[Any]
    calls: list[Any]
    results: list[dict[str, Any]]
    reasoning: list[str]


def split_parts(message: Any) -> list[Any]:
    """Return a message with calls, results and reasoning in keys of their own, as in OpenAI's form.

    Results become messages of the role tool, which precede the other parts. A message without such
    parts is returned as it is; unknown parts stay in the content.
    """
    key = _list_key(message)
    if key is None or not any(map(_is_special, message[key])):
        return [message]
    parts = _sort(message[key])
    if not (parts.rest or parts.calls or parts.reasoning):
        return list(parts.results)
    changed = {**message, key: parts.rest}
    if parts.calls:
        changed["tool_calls"] = parts.calls
    if parts.reasoning:
        changed["reasoning_content"] = "\n".join(parts.reasoning)
    return [*parts.results, changed]


def system_content(value: Any) -> Any:
    """Return the text of a system message that is a list of parts or an object with one.

    Other values, and lists with other parts, are returned as they are; a text only stands for a
    list in a cell of a table.
    """
    content = value
    if isinstance(value, str):
        parsed = parse_cell(value)
        content = parsed.get("parts") if isinstance(parsed, Mapping) else parsed
    elif isinstance(value, Mapping):
        content = next((value[key] for key in CONTENT_KEYS if key in value), value)
    if isinstance(content, list) and (content or not isinstance(value, str)):
        texts = [part_text(part) for part in content]
        return value if None in texts else "".join(text for text in texts if text is not None)
    return content if isinstance(content, str) and isinstance(value, Mapping) else value


def plain_tools(value: Any) -> list[Any]:
    """Return tools in Gemini's, Bedrock's or Anthropic's form as functions; others as they are."""
    inner = value.get("tools") if isinstance(value, Mapping) else None
    items = inner if isinstance(inner, list) else [value]
    return [_plain_tool(tool) for item in items for tool in _declared(item)]


def _declared(value: Any) -> list[Any]:
    """Return the functions that one object declares; none for one that says how to call them."""
    if not isinstance(value, Mapping):
        return [value]
    if value and value.keys() <= {"functionCallingConfig", "toolChoice"}:
        return []
    keys = ("functionDeclarations", "function_declarations")
    functions = next((value[key] for key in keys if isinstance(value.get(key), list)), None)
    return [value] if functions is None else list(functions)


def _plain_tool(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    tool = dict(value["toolSpec"]) if isinstance(value.get("toolSpec"), Mapping) else dict(value)
    for key in ("inputSchema", "input_schema"):
        schema = tool.get(key)
        if isinstance(schema, Mapping) and "parameters" not in tool:
            del tool[key]
            tool["parameters"] = schema.get("json", schema) if key == "inputSchema" else schema
    return tool


def _list_key(message: Any) -> str | None:
    """Return the key of a message that holds a content list."""
    if not isinstance(message, dict):
        return None
    return next((key for key in CONTENT_KEYS if isinstance(message.get(key), list)), None)


def _is_special(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    return part.get("type") in _TYPES or any(part.get(key) is not None for key in _SPECIAL)


def _sort(parts: list[Any]) -> _Parts:
    sorted_parts = _Parts([], [], [], [])
    for part in parts:
        if not _is_special(part):
            sorted_parts.rest.append(part)
            continue
        named = {_ANTHROPIC[part["type"]]: part} if part.get("type") in _ANTHROPIC else part
        call = next((named[key] for key in _CALLS if named.get(key) is not None), None)
        result = next((named[key] for key in _RESULTS if named.get(key) is not None), None)
        reasoning = _reasoning(part)
        if call is not None:
            sorted_parts.calls.append(_call(call))
        elif result is not None:
            sorted_parts.results.append(_result(result))
        elif reasoning is not None:
            sorted_parts.reasoning.append(reasoning)
        else:
            sorted_parts.rest.append(part)
    return sorted_parts


def _call(value: Any) -> Any:
    """Return a call with name and arguments; a value that is not an object stays as it is."""
    if not isinstance(value, dict):
        return value
    arguments = next((value[key] for key in ("args", "input", "arguments") if key in value), None)
    call = {"name": value.get("name"), "arguments": {} if arguments is None else arguments}
    own_id = value.get("toolUseId", value.get("id"))
    return call if own_id is None else call | {"id": own_id}


def _result(value: Any) -> dict[str, Any]:
    """Return the message of a tool result."""
    if not isinstance(value, dict):
        return {"role": "tool", "content": value}
    content = value.get("response", value.get("content"))
    message: dict[str, Any] = {"role": "tool", "content": _result_content(content)}
    if isinstance(value.get("name"), str):
        message["name"] = value["name"]
    call_id = value.get("toolUseId", value.get("tool_use_id", value.get("id")))
    if isinstance(call_id, str):
        message["tool_call_id"] = call_id
    return message


def _result_content(content: Any) -> Any:
    """Return texts joined and objects as JSON; a list with other parts stays as it is."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        text = part_text(part)
        if text is None and isinstance(part, dict) and "json" in part:
            text = orjson.dumps(part["json"]).decode()
        if text is None:
            return content
        texts.append(text)
    return "".join(texts)


def _reasoning(part: dict[str, Any]) -> str | None:
    """Return the text of a part that is reasoning; None for others."""
    inner = part.get("reasoningContent")
    if isinstance(inner, dict):
        inner = inner.get("reasoningText", inner)
        text = inner.get("text") if isinstance(inner, dict) else inner
    elif part.get("type") == "thinking":
        text = part.get("thinking")
    else:
        text = part.get("text") if part.get("thought") else None
    return text if isinstance(text, str) else None
