"""Repair the order and contents of messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Message = dict[str, Any]


def join_consecutive(messages: list[Message]) -> list[Message]:
    """Return the messages with neighbours of one role joined."""
    joined: list[Message] = []
    for message in messages:
        last = joined[-1] if joined else None
        if last is not None and _can_join(last, message):
            content = f"{last['content']}\n\n{message['content']}".strip()
            joined[-1] = {**last, "content": content}
        else:
            joined.append(message)
    return joined


def _can_join(first: Message, second: Message) -> bool:
    has_calls = first.get("tool_calls") or second.get("tool_calls")
    return first["role"] == second["role"] != "tool" and not has_calls


def join_system_messages(messages: list[Message]) -> list[Message]:
    """Return the messages with all system messages joined at the start."""
    contents = [message["content"] for message in messages if message["role"] == "system"]
    rest = [message for message in messages if message["role"] != "system"]
    text = "\n\n".join(content for content in contents if content.strip())
    return join_consecutive([{"role": "system", "content": text}, *rest] if text else rest)


def begin_with_user(messages: list[Message]) -> list[Message]:
    """Return the system message and the messages from the first user message on."""
    system = [message for message in messages[:1] if message["role"] == "system"]
    for index, message in enumerate(messages):
        if message["role"] == "user":
            return [*system, *messages[index:]]
    return system


def end_with_assistant(messages: list[Message]) -> list[Message]:
    """Return the messages up to the last assistant message."""
    indices = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    return messages[: indices[-1] + 1] if indices else messages


def drop_empty(messages: list[Message]) -> list[Message]:
    """Return the messages that have content or tool calls."""
    return [
        message for message in messages if message["content"].strip() or message.get("tool_calls")
    ]


MESSAGE_REPAIRS: dict[str, Callable[[list[Message]], list[Message]]] = {
    "several-system-messages": join_system_messages,
    "system-message-not-first": join_system_messages,
    "assistant-message-first": begin_with_user,
    "consecutive-user-messages": join_consecutive,
    "consecutive-assistant-messages": join_consecutive,
    "ends-without-answer": end_with_assistant,
    "empty-message": drop_empty,
}


def keep_text_contents(messages: list[Any], key: str) -> list[Any]:
    """Return raw messages without null contents, and with the text parts of lists only."""
    kept = []
    for message in messages:
        if not isinstance(message, dict):
            continue
        content = message.get(key)
        if isinstance(content, list):
            parts = [part for part in content if isinstance(part, dict) and "text" in part]
            kept.append({**message, key: "\n".join(str(part["text"]) for part in parts)})
        elif content is not None or message.get("tool_calls"):
            kept.append(message)
    return kept
