"""Rows of preferences: the question, the better answer and the worse one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from modelforge.data.canonical.messages import (
    Message,
    UnusableRowError,
    is_empty,
    to_messages,
    to_text,
)

_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")
_TRUE = frozenset({"true", "1", "1.0"})
_FALSE = frozenset({"false", "0", "0.0"})


def is_conversation(value: Any) -> bool:
    """Say whether a value is a conversation, or the JSON text of one."""
    return isinstance(value, list | dict) or (
        isinstance(value, str) and value.lstrip().startswith('[{"')
    )


def to_preference(
    prompt: Any, chosen: Any, rejected: Any, properties: dict[str, str]
) -> tuple[list[Message], list[Message], list[Message]]:
    """Return the question and both answers as turns; `prompt` is None where it is implicit.

    Where the answers are whole conversations, what both begin with is the question.
    """
    better = to_completion(chosen, properties)
    worse = to_completion(rejected, properties)
    if better[0]["role"] != "assistant" and worse[0]["role"] != "assistant":
        question, better, worse = _parted(better, worse)
    else:
        question = to_prompt(prompt, properties)
    for answer, code in ((better, "empty-chosen"), (worse, "empty-rejected")):
        if not answer or any(t["role"] == "assistant" and is_empty(t) for t in answer):
            raise UnusableRowError(code)
    if not question:
        raise UnusableRowError("no-prompt")
    if better == worse:
        raise UnusableRowError("same-answers")
    return question, better, worse


def to_prompt(value: Any, properties: dict[str, str]) -> list[Message]:
    """Return a question as turns, be it text or a conversation."""
    if is_conversation(value):
        return to_messages(value, properties)
    text = to_text(value)
    if not text.strip():
        raise UnusableRowError("no-prompt" if value is None else "empty-question")
    return [{"role": "user", "content": text}]


def to_completion(value: Any, properties: dict[str, str]) -> list[Message]:
    """Return an answer as turns, be it text, a conversation or the text of one."""
    if is_conversation(value):
        return to_messages(value, properties)
    text = to_text(value)
    return parse_transcript(text) or [{"role": "assistant", "content": text}]


def parse_transcript(text: str) -> list[Message]:
    """Return the turns of a text written as "Human: … Assistant: …"; none when it is not."""
    pieces = _SPEAKER.split(text.lstrip() if text.lstrip().startswith("Human:") else "")
    names, texts = pieces[1::2], pieces[2::2]
    if "Assistant" not in names:
        return []
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[name], "content": said.strip()}
        for name, said in zip(names, texts, strict=True)
    ]


def to_label(value: Any) -> bool:
    """Return whether an answer is marked good."""
    text = to_text(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise UnusableRowError("bad-label")
    return text in _TRUE


def _parted(
    better: Sequence[Message], worse: Sequence[Message]
) -> tuple[list[Message], list[Message], list[Message]]:
    shared = 0
    for one, other in zip(better, worse, strict=False):
        if one != other:
            break
        shared += 1
    if shared == len(better) == len(worse):
        raise UnusableRowError("same-answers")
    # The question never ends in half an answer of both.
    return list(better[:shared]), list(better[shared:]), list(worse[shared:])
