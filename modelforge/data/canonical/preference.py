"""Rows of preferences: the question, the better answer and the worse one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from modelforge.data.canonical.messages import Turn, UnusableRowError, is_empty, plain, turns_of

_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")
_TRUE = frozenset({"true", "1", "1.0"})
_FALSE = frozenset({"false", "0", "0.0"})


def is_chat(value: Any) -> bool:
    """Say whether a value is a conversation, or the JSON text of one."""
    return isinstance(value, list | dict) or (
        isinstance(value, str) and value.lstrip().startswith('[{"')
    )


def compared(
    prompt: Any, chosen: Any, rejected: Any, properties: dict[str, str]
) -> tuple[list[Turn], list[Turn], list[Turn]]:
    """Return the question and both answers as turns; `prompt` is None where it is implicit.

    Where the answers are whole conversations, what both begin with is the question.
    """
    better = answer_turns(chosen, properties)
    worse = answer_turns(rejected, properties)
    if better[0]["role"] != "assistant" and worse[0]["role"] != "assistant":
        question, better, worse = _parted(better, worse)
    else:
        question = question_turns(prompt, properties)
    for answer, code in ((better, "empty-chosen"), (worse, "empty-rejected")):
        if not answer or any(t["role"] == "assistant" and is_empty(t) for t in answer):
            raise UnusableRowError(code)
    if not question:
        raise UnusableRowError("no-prompt")
    if better == worse:
        raise UnusableRowError("same-answers")
    return question, better, worse


def question_turns(value: Any, properties: dict[str, str]) -> list[Turn]:
    """Return a question as turns, be it text or a conversation."""
    if is_chat(value):
        return turns_of(value, properties)
    text = plain(value)
    if not text.strip():
        raise UnusableRowError("no-prompt" if value is None else "empty-question")
    return [{"role": "user", "content": text}]


def answer_turns(value: Any, properties: dict[str, str]) -> list[Turn]:
    """Return an answer as turns, be it text, a conversation or the text of one."""
    if is_chat(value):
        return turns_of(value, properties)
    text = plain(value)
    return spoken(text) or [{"role": "assistant", "content": text}]


def spoken(text: str) -> list[Turn]:
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


def label(value: Any) -> bool:
    """Return whether an answer is marked good."""
    text = plain(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise UnusableRowError("bad-label")
    return text in _TRUE


def _parted(
    better: Sequence[Turn], worse: Sequence[Turn]
) -> tuple[list[Turn], list[Turn], list[Turn]]:
    shared = 0
    for one, other in zip(better, worse, strict=False):
        if one != other:
            break
        shared += 1
    if shared == len(better) == len(worse):
        raise UnusableRowError("same-answers")
    # The question never ends in half an answer of both.
    return list(better[:shared]), list(better[shared:]), list(worse[shared:])
