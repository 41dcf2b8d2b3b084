"""Convert preference rows: the prompt, the chosen and the rejected completion."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from modelforge.data.canonical.cells import (
    conversation_in,
    is_plain_text,
    looks_like_conversation,
    parse_cell,
)
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


def to_preference(
    prompt: list[Message], chosen: Any, rejected: Any, properties: dict[str, str]
) -> tuple[list[Message], list[Message], list[Message]]:
    """Return the messages of prompt, chosen and rejected completion.

    If the completions are whole conversations, the prompt is what both begin with; if one is, the
    prompt is what precedes its last answer.
    """
    chosen_messages = to_completion(chosen, properties)
    rejected_messages = to_completion(rejected, properties)
    is_answer = [each[0]["role"] == "assistant" for each in (chosen_messages, rejected_messages)]
    if not any(is_answer):
        shared = _count_shared(chosen_messages, rejected_messages)
        prompt = chosen_messages[:shared]
        chosen_messages = chosen_messages[shared:]
        rejected_messages = rejected_messages[shared:]
    elif not is_answer[0]:
        prompt, chosen_messages = split_last_answer(chosen_messages)
    elif not is_answer[1]:
        prompt, rejected_messages = split_last_answer(rejected_messages)
    _refuse_empty(chosen_messages, "empty-chosen")
    _refuse_empty(rejected_messages, "empty-rejected")
    if not prompt:
        raise UnusableRowError("no-prompt")
    if chosen_messages == rejected_messages:
        raise UnusableRowError("identical-answers")
    return prompt, chosen_messages, rejected_messages


def split_last_answer(messages: list[Message]) -> tuple[list[Message], list[Message]]:
    """Return the messages before the last answer, and the messages of that answer."""
    start = len(messages)
    while start and messages[start - 1]["role"] == "assistant":
        start -= 1
    return messages[:start], messages[start:]


def to_completion(value: Any, properties: dict[str, str]) -> list[Message]:
    """Return the messages of a completion: a text, a conversation or a transcript.

    A list of one text is that text, as ms-swift writes it. A pair is trained whole, so that weights
    of single messages do not apply.
    """
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    if conversation_in(value) is not None:
        messages = to_messages(value, properties)
        return [{key: part for key, part in each.items() if key != "weight"} for each in messages]
    text = to_text(value)
    refuse_broken_conversation(text)
    return parse_transcript(text) or [{"role": "assistant", "content": text}]


def refuse_broken_conversation(text: str) -> None:
    """Raise UnusableRowError for a text that begins like messages but cannot be read as such."""
    if is_plain_text(text):
        return
    if looks_like_conversation(text) and parse_cell(text) is text:
        raise UnusableRowError("bad-messages")


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
