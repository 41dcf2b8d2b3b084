"""Convert conversations in any spelling to messages with role and content."""

from __future__ import annotations

from typing import Any

import orjson

from modelforge.data.canonical.cells import (
    CALL,
    CONTENT_KEYS,
    REASONING_KEYS,
    ROLE_ALIASES,
    ROLE_KEYS,
    WEIGHT_KEYS,
    messages_of_columns,
    parse_cell,
    part_text,
)
from modelforge.data.canonical.content_parts import plain_tools, split_parts, system_content
from modelforge.data.formats.tree_nodes import LEFT_OUT, LEFT_OUT_CODES

Message = dict[str, Any]

ROLES = ("system", "user", "assistant", "tool")
_MAX_WEIGHT = 1_000_000.0


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
    if all(message.get("weight") == 0 for message in completions):
        raise UnusableRowError("all-untrained")
    return messages


def to_history(value: Any, properties: dict[str, str]) -> list[Message]:
    """Return earlier turns as messages: a list of messages, or of pairs of question and answer."""
    value = parse_cell(value)
    if value is None or value in ("", []):
        return []
    if isinstance(value, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        return [
            {"role": role, "content": to_text(text)}
            for pair in value
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
    return to_messages(value, properties)


def to_messages(value: Any, properties: dict[str, str]) -> list[Message]:
    """Return the messages of a list, or of the JSON text of one.

    `properties` maps role, content and others to the keys used in these messages.
    """
    value = parse_cell(value)
    if isinstance(value, dict):
        refuse_left_out(value)
        value = value.get("messages", messages_of_columns(value) or [value])
    if not isinstance(value, list) or not value:
        raise UnusableRowError("bad-messages")
    if any(type(part) is list for item in value if type(item) is dict for part in item.values()):
        value = [message for item in value for message in split_parts(item)]
    if not any(map(_is_pair_of_turns, value)):
        return [_to_message(item, properties) for item in value]
    return [_to_message(item, properties) for turn in value for item in _split_turn(turn)]


def refuse_left_out(value: Any) -> None:
    """Raise UnusableRowError for what takes the place of a message that is in no conversation."""
    if isinstance(value, dict) and value.get(LEFT_OUT) in LEFT_OUT_CODES:
        raise UnusableRowError(value[LEFT_OUT])


def is_empty_message(message: Message) -> bool:
    """Return whether a message has neither content nor tool calls."""
    return not message["content"].strip() and not message.get("tool_calls")


def parse_json(text: str, code: str) -> Any:
    """Return the value of a JSON text in a cell; raises UnusableRowError with `code`."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise UnusableRowError(code) from None


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
    value = parse_cell(value)
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise UnusableRowError("bad-tools")
    return [_to_tool(tool) for item in value for tool in plain_tools(parse_cell(item))]


def to_system_text(value: Any) -> str:
    """Return a system message as text, also one that is a list of parts or an object with one."""
    return to_text(system_content(value))


def _to_tool(value: Any) -> dict[str, Any]:
    tool = parse_cell(value)
    if not isinstance(tool, dict):
        raise UnusableRowError("bad-tools")
    function = tool.get("function", tool)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UnusableRowError("bad-tools")
    return tool if "function" in tool else {"type": "function", "function": tool}


def _is_pair_of_turns(turn: Any) -> bool:
    return type(turn) is dict and "human" in turn and "assistant" in turn


def _split_turn(turn: Any) -> list[Any]:
    """Return the messages of one turn such as {"human": …, "assistant": …}."""
    if not _is_pair_of_turns(turn):
        return [turn]
    return [{"role": role, "content": turn[role]} for role in ("human", "assistant")]


def _to_message(value: Any, properties: dict[str, str]) -> Message:
    role_key = _key(value, properties.get("role", "role"), ROLE_KEYS)
    if role_key is None:
        raise UnusableRowError("bad-messages")
    role = _to_role(value[role_key])
    content_key = _key(value, properties.get("content", "content"), CONTENT_KEYS)
    content = None if content_key is None else value[content_key]
    if len(value) == 2 and type(content) is str and role != CALL:
        return {"role": role, "content": content}  # as most messages
    if role == CALL:
        calls = parse_json(content, "bad-tool-call") if isinstance(content, str) else content
        return {"role": "assistant", "content": "", "tool_calls": _to_calls(calls)}
    message: Message = {"role": role, "content": _to_content(content, role)}
    if role == "assistant":
        _add_answer_keys(message, value, properties)
    if role == "tool":
        for name in ("name", "tool_call_id"):
            text = value.get(properties.get(name, name))
            if isinstance(text, str):
                message[name] = text
    return message


def _key(value: Any, key: str, others: tuple[str, ...]) -> str | None:
    if not isinstance(value, dict):
        return None
    return key if key in value else next((other for other in others if other in value), None)


def _add_answer_keys(message: Message, value: dict[str, Any], properties: dict[str, str]) -> None:
    """Add what an assistant message has beside its content: calls, reasoning and weight."""
    calls = value.get(properties.get("tool_calls", "tool_calls")) or value.get("function_call")
    if calls:
        calls = parse_json(calls, "bad-tool-call") if isinstance(calls, str) else calls
        message["tool_calls"] = _to_calls(calls)
    reasoning = next((value[key] for key in REASONING_KEYS if value.get(key)), None)
    if isinstance(reasoning, str) and reasoning.strip():
        message["reasoning_content"] = reasoning
    weight = weight_of(value)
    if weight is None:
        raise UnusableRowError("bad-weight")
    if weight != 1:
        message["weight"] = weight


def weight_of(message: dict[str, Any]) -> float | None:
    """Return the weight of a message, 1 if it has none; None if it is not a possible weight.

    Weights are numbers, truth values or text from 0 on; those of OpenAI (`weight`) are at most 1.
    """
    key = next((key for key in WEIGHT_KEYS if message.get(key) not in (None, "")), None)
    value = 1 if key is None else message[key]
    if isinstance(value, str):
        value = {"true": 1, "false": 0}.get(value.strip().lower(), value)
    try:
        weight = float(value)
    except (TypeError, ValueError):
        return None
    return weight if 0 <= weight <= (1 if key == WEIGHT_KEYS[0] else _MAX_WEIGHT) else None


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
    texts = [part_text(part) for part in parts]
    if None in texts:
        raise UnusableRowError("not-text")
    return "".join(text for text in texts if text is not None)


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
