"""Convert conversations in any spelling to messages with role and content."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import orjson

Message = dict[str, Any]

ROLES = ("system", "user", "assistant", "tool")
_CALL = "function_call"
# The role of every known spelling; a message with the role _CALL is a tool call of the assistant.
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
    _CALL: _CALL,
    "tool_call": _CALL,
}


class UnusableRowError(ValueError):
    """A row that cannot be trained on; `code` is stable and names the cause."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def to_conversation(value: Any, properties: dict[str, str]) -> list[Message]:
    """Return the messages of a conversation with at least one assistant message."""
    messages = to_messages(value, properties)
    completions = [message for message in messages if message["role"] == "assistant"]
    if not completions:
        raise UnusableRowError("no-assistant-message")
    if any(is_empty_message(message) for message in completions):
        raise UnusableRowError("empty-answer")
    return messages


def to_messages(value: Any, properties: dict[str, str]) -> list[Message]:
    """Return the messages of a list, or of the JSON text of one.

    `properties` maps role, content and others to the keys used in these messages.
    """
    if isinstance(value, str):
        value = parse_json(value, "bad-messages")
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        raise UnusableRowError("bad-messages")
    return [_to_message(item, properties) for item in value]


def is_empty_message(message: Message) -> bool:
    """Return whether a message has neither content nor tool calls."""
    return not message["content"].strip() and not message.get("tool_calls")


def parse_json(text: str, code: str) -> Any:
    """Return the value of a JSON text in a cell; raises UnusableRowError with `code`."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise UnusableRowError(code) from None


def parse_cell(value: Any) -> Any:
    """Return the list or object in a cell that holds its JSON text; other values unchanged."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(value)
    return value


def to_text(value: Any, present: bool = True) -> str:
    """Return a scalar as text, "" for null and NaN; raises UnusableRowError for other values.

    `present` is false if the row does not have the column.
    """
    if value is None:
        if not present:
            raise UnusableRowError("missing-field")
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        is_nan = value != value
        return "" if is_nan else str(value)
    raise UnusableRowError("not-text")


def to_tools(value: Any) -> list[dict[str, Any]]:
    """Return the tools of a list, or of the JSON text of one; an empty list for none."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    if isinstance(value, str):
        value = parse_json(value, "bad-tools")
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise UnusableRowError("bad-tools")
    return [_to_tool(item) for item in value]


def _to_tool(value: Any) -> dict[str, Any]:
    tool = parse_json(value, "bad-tools") if isinstance(value, str) else value
    if not isinstance(tool, dict):
        raise UnusableRowError("bad-tools")
    function = tool.get("function", tool)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UnusableRowError("bad-tools")
    return tool if "function" in tool else {"type": "function", "function": tool}


def _to_message(value: Any, properties: dict[str, str]) -> Message:
    role_key = properties.get("role", "role")
    if not isinstance(value, dict) or role_key not in value:
        raise UnusableRowError("bad-messages")
    role = _to_role(value[role_key])
    content = value.get(properties.get("content", "content"))
    if role == _CALL:
        calls = parse_json(content, "bad-tool-call") if isinstance(content, str) else content
        return {"role": "assistant", "content": "", "tool_calls": _to_calls(calls)}
    message: Message = {"role": role, "content": _to_content(content, role)}
    if role == "assistant":
        calls = value.get(properties.get("tool_calls", "tool_calls"))
        if calls:
            calls = parse_json(calls, "bad-tool-call") if isinstance(calls, str) else calls
            message["tool_calls"] = _to_calls(calls)
    if role == "tool":
        for name in ("name", "tool_call_id"):
            text = value.get(properties.get(name, name))
            if isinstance(text, str):
                message[name] = text
    return message


def _to_role(value: Any) -> str:
    if value in ROLES:
        return str(value)
    role = ROLE_ALIASES.get(value.strip().lower()) if isinstance(value, str) else None
    if role is None:
        raise UnusableRowError("unknown-role")
    return role


def _to_content(content: Any, role: str) -> str:
    if type(content) is str:
        return content
    if role == "tool" and isinstance(content, dict):
        return orjson.dumps(content).decode()
    return _join_parts(content) if isinstance(content, list) else to_text(content)


def _join_parts(parts: list[Any]) -> str:
    """Join the text parts of a content list; other parts make the row unusable."""
    texts = []
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            raise UnusableRowError("not-text")
        texts.append(part["text"])
    return "".join(texts)


def _to_calls(value: Any) -> list[dict[str, Any]]:
    calls = [value] if isinstance(value, dict) else value
    if not isinstance(calls, list):
        raise UnusableRowError("bad-tool-call")
    return [_to_call(call) for call in calls]


def _to_call(value: Any) -> dict[str, Any]:
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UnusableRowError("bad-tool-call")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        arguments = parse_json(arguments, "bad-tool-call") if arguments.strip() else {}
    if not isinstance(arguments, dict):
        raise UnusableRowError("bad-tool-call")
    call = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    if isinstance(value.get("id"), str):
        call["id"] = value["id"]
    return call
