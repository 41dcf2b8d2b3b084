"""Convert preference rows: the prompt, the chosen and the rejected completion."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from modelforge.data.canonical.messages import (
    Message,
    UnusableRowError,
    is_empty_message,
    to_messages,
    to_text,
)

_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")
_SPEAKER_ROLES = {"Human": "user", "Assistant": "assistant"}
_TRUE = frozenset({"true", "1", "1.0"})
_FALSE = frozenset({"false", "0", "0.0"})


def is_conversation(value: Any) -> bool:
    """Return whether a value is a list of messages, or the JSON text of one."""
    if isinstance(value, str):
        return value.lstrip().startswith('[{"')
    return isinstance(value, list | dict)


def to_preference(
    prompt: Any, chosen: Any, rejected: Any, properties: dict[str, str]
) -> tuple[list[Message], list[Message], list[Message]]:
    """Return the messages of prompt, chosen and rejected completion.

    If the completions are whole conversations, the prompt is what both begin with.
    """
    chosen_messages = to_completion(chosen, properties)
    rejected_messages = to_completion(rejected, properties)
    first_roles = (chosen_messages[0]["role"], rejected_messages[0]["role"])
    if "assistant" in first_roles:
        prompt_messages = to_prompt(prompt, properties)
    else:
        shared = _count_shared(chosen_messages, rejected_messages)
        prompt_messages = chosen_messages[:shared]
        chosen_messages = chosen_messages[shared:]
        rejected_messages = rejected_messages[shared:]
    _refuse_empty(chosen_messages, "empty-chosen")
    _refuse_empty(rejected_messages, "empty-rejected")
    if not prompt_messages:
        raise UnusableRowError("no-prompt")
    if chosen_messages == rejected_messages:
        raise UnusableRowError("identical-answers")
    return prompt_messages, chosen_messages, rejected_messages


def to_prompt(value: Any, properties: dict[str, str]) -> list[Message]:
    """Return the messages of a prompt, which is a text or a conversation."""
    if is_conversation(value):
        return to_messages(value, properties)
    text = to_text(value)
    if not text.strip():
        raise UnusableRowError("no-prompt" if value is None else "empty-question")
    return [{"role": "user", "content": text}]


def to_completion(value: Any, properties: dict[str, str]) -> list[Message]:
    """Return the messages of a completion: a text, a conversation or a transcript."""
    if is_conversation(value):
        return to_messages(value, properties)
    text = to_text(value)
    return parse_transcript(text) or [{"role": "assistant", "content": text}]


def parse_transcript(text: str) -> list[Message]:
    """Return the messages of a text such as "Human: … Assistant: …"; an empty list for others."""
    text = text.lstrip()
    pieces = _SPEAKER.split(text) if text.startswith("Human:") else []
    speakers, contents = pieces[1::2], pieces[2::2]
    if "Assistant" not in speakers:
        return []
    return [
        {"role": _SPEAKER_ROLES[speaker], "content": content.strip()}
        for speaker, content in zip(speakers, contents, strict=True)
    ]


def to_label(value: Any) -> bool:
    """Return whether a completion is labelled good."""
    text = to_text(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise UnusableRowError("bad-label")
    return text in _TRUE


def _refuse_empty(messages: Sequence[Message], code: str) -> None:
    is_empty = any(
        message["role"] == "assistant" and is_empty_message(message) for message in messages
    )
    if not messages or is_empty:
        raise UnusableRowError(code)


def _count_shared(chosen: Sequence[Message], rejected: Sequence[Message]) -> int:
    """Return how many messages both conversations begin with."""
    shared = 0
    for one, other in zip(chosen, rejected, strict=False):
        if one != other:
            break
        shared += 1
    if shared == len(chosen) == len(rejected):
        raise UnusableRowError("identical-answers")
    return shared
