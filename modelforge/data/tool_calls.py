"""Read the tool calls in an answer of a model, in the usual spellings of chat templates."""

from __future__ import annotations

import json
import re
from typing import Any

from modelforge.data.find_calls import find_calls

MAX_CALLS = 32
# The body of a call that is not valid JSON; an answer that was cut off has no closing tag.
_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_MARKED = re.compile(r"(?:\[TOOL_CALLS\]|<\|python_tag\|>)(.*)\Z", re.DOTALL)


def read_tool_calls(text: str) -> list[dict[str, Any]]:
    """Return the calls in an answer, each with `name` and `arguments`; none for a plain answer.

    The arguments are an object, or the text itself where it is not valid JSON.
    """
    found = find_calls(text)
    if found.is_malformed:
        bodies = _TAGGED.findall(text) or _MARKED.findall(text) or [text]
        return [_unreadable(body.strip()) for body in bodies[:MAX_CALLS]]
    calls = [{"name": call.name, "arguments": dict(call.arguments)} for call in found.calls]
    return calls[:MAX_CALLS]


def _unreadable(text: str) -> dict[str, Any]:
    """Return a call that is not valid, with its name and arguments where they can be seen."""
    try:
        call = json.loads(text)
        return {"name": str(call["name"]), "arguments": call["arguments"]}
    except (ValueError, RecursionError, LookupError, TypeError):
        pass
    name = re.search(r'"name"\s*:\s*"([^"]{1,200})"', text)
    return {"name": name.group(1) if name else "", "arguments": text}
