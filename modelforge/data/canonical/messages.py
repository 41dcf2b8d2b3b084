"""A conversation, however it is written, to turns with role and content."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

Message = dict[str, Any]

ROLES = ("system", "user", "assistant", "tool")
CALL = "function_call"
ROLE_ALIASES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
    "tool_response": "tool",
    CALL: CALL,
    "tool_call": CALL,
}


class UnusableRowError(ValueError):
    """A row that nothing can be learned from; `code` is stable and names the cause."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def to_conversation(value: Any, properties: dict[str, str]) -> list[Message]:
    """Return the turns of a conversation that ends up with at least one answer."""
    turns = to_messages(value, properties)
    answers = [turn for turn in turns if turn["role"] == "assistant"]
    if not answers:
        raise UnusableRowError("no-answer-turn")
    if any(is_empty(answer) for answer in answers):
        raise UnusableRowError("empty-answer")
    return turns


def to_messages(value: Any, properties: dict[str, str]) -> list[Message]:
    """Return the turns of a list of messages, or of the JSON text of one."""
    if isinstance(value, str):
        value = parse_json(value, "bad-messages")
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        raise UnusableRowError("bad-messages")
    return [_turn(turn, properties) for turn in value]


def is_empty(turn: Message) -> bool:
    """Say whether a turn says and calls nothing."""
    return not turn["content"].strip() and not turn.get("tool_calls")


def parse_json(text: str, code: str) -> Any:
    """Read what stands as JSON text in a cell; raises UnusableRowError with `code`."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise UnusableRowError(code) from None


def to_text(value: Any, present: bool = True) -> str:
    """Return a value as text; raises UnusableRowError for what is none."""
    if value is None:
        if not present:
            raise UnusableRowError("missing-field")
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "" if value != value else str(value)
    raise UnusableRowError("not-text")


def to_tools(value: Any) -> list[dict[str, Any]]:
    """Return the tools on offer, from a list or the JSON text of one; none is an empty list."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    if isinstance(value, str):
        value = parse_json(value, "bad-tools")
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise UnusableRowError("bad-tools")
    return [_tool(tool) for tool in value]


def _tool(tool: Any) -> dict[str, Any]:
    if isinstance(tool, str):
        tool = parse_json(tool, "bad-tools")
    if not isinstance(tool, dict):
        raise UnusableRowError("bad-tools")
    inner = tool.get("function", tool)
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise UnusableRowError("bad-tools")
    return tool if "function" in tool else {"type": "function", "function": tool}


def _turn(turn: Any, properties: dict[str, str]) -> Message:
    named: Callable[[str], str] = lambda part: properties.get(part, part)  # noqa: E731
    if not isinstance(turn, dict) or named("role") not in turn:
        raise UnusableRowError("bad-messages")
    said = turn[named("role")]
    role = (
        said
        if said in ROLES
        else ROLE_ALIASES.get(said.strip().lower() if type(said) is str else "")
    )
    if role is None:
        raise UnusableRowError("unknown-role")
    content = turn.get(named("content"))
    if role == CALL:
        calls = _calls(
            parse_json(content, "bad-tool-call") if isinstance(content, str) else content
        )
        return {"role": "assistant", "content": "", "tool_calls": calls}
    found: Message = {"role": role, "content": _content(content, role)}
    if role == "assistant" and (calls_said := turn.get(named("tool_calls"))):
        if isinstance(calls_said, str):
            calls_said = parse_json(calls_said, "bad-tool-call")
        found["tool_calls"] = _calls(calls_said)
    if role == "tool":
        for part in ("name", "tool_call_id"):
            if isinstance(value := turn.get(named(part)), str):
                found[part] = value
    return found


def _content(content: Any, role: str) -> str:
    if type(content) is str:
        return content
    if role == "tool" and isinstance(content, dict):
        return orjson.dumps(content).decode()
    return _parts(content) if isinstance(content, list) else to_text(content)


def _parts(parts: list[Any]) -> str:
    """Join the text parts of a content list; anything but text makes the row unusable."""
    texts = []
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            raise UnusableRowError("not-text")
        texts.append(part["text"])
    return "".join(texts)


def _calls(value: Any) -> list[dict[str, Any]]:
    calls = [value] if isinstance(value, dict) else value
    if not isinstance(calls, list):
        raise UnusableRowError("bad-tool-call")
    return [_call(call) for call in calls]


def _call(call: Any) -> dict[str, Any]:
    inner = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise UnusableRowError("bad-tool-call")
    arguments = inner.get("arguments", {})
    if isinstance(arguments, str):
        arguments = parse_json(arguments, "bad-tool-call") if arguments.strip() else {}
    if not isinstance(arguments, dict):
        raise UnusableRowError("bad-tool-call")
    found = {"type": "function", "function": {"name": inner["name"], "arguments": arguments}}
    if isinstance(call.get("id"), str):
        found["id"] = call["id"]
    return found
