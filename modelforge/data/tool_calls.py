"""Read the tool calls in an answer of a model, in the usual spellings of chat templates."""

from __future__ import annotations

import json
import re
from typing import Any

MAX_CALLS = 32
# Hermes, Qwen and others; an answer that was cut off has no closing tag.
_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
# Mistral and Llama 3 write one token before the calls.
_MARKED = re.compile(r"(?:\[TOOL_CALLS\]|<\|python_tag\|>)(.*)\Z", re.DOTALL)
_FENCED = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


def read_tool_calls(text: str) -> list[dict[str, Any]]:
    """Return the calls in an answer, each with `name` and `arguments`; none for a plain answer.

    The arguments are an object, or the text itself where it is not valid JSON. An answer that is
    a JSON object with a name, and nothing else, counts as a call.
    """
    parts = _TAGGED.findall(text) or _MARKED.findall(text) or _FENCED.findall(text)
    is_marked = bool(_TAGGED.search(text) or _MARKED.search(text))
    if not parts:
        parts = [text]
    calls = [call for part in parts for call in _calls(part.strip(), is_marked)]
    return calls[:MAX_CALLS]


def _calls(text: str, is_marked: bool) -> list[dict[str, Any]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return [_unreadable(text)] if is_marked and text else []
    items = value if isinstance(value, list) else [value]
    calls = [_call(item) for item in items]
    return [call for call in calls if call is not None]


def _call(item: Any) -> dict[str, Any] | None:
    function = item.get("function", item) if isinstance(item, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return None
    key = next((key for key in ("arguments", "parameters") if key in function), None)
    if key is None and set(function) != {"name"}:
        return None
    arguments = function.get(key, {}) if key else {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return {"name": function["name"], "arguments": arguments}
    return {"name": function["name"], "arguments": arguments}


def _unreadable(text: str) -> dict[str, Any]:
    """Return a call that is not valid JSON, with its name where it can be seen."""
    name = re.search(r'"name"\s*:\s*"([^"]{1,200})"', text)
    return {"name": name.group(1) if name else "", "arguments": text}
