"""Answers that stand in a context, with the place where each begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from modelforge.data.canonical.messages import UnusableRowError, to_text

_Said = tuple[str, int | None]

QA_PROMPT = "Answer the question from this text.\n\n{context}\n\nQuestion: {question}"
# What a model that writes is taught to say where the context has no answer.
NO_ANSWER = "The text does not say."


def to_chat_example(row: dict[str, Any]) -> dict[str, Any]:
    """Return a question about a context as a conversation, for models that write their answer."""
    answers = row["answers"]
    said = answers[0]["text"] if answers else NO_ANSWER
    asked = QA_PROMPT.format(context=row["context"], question=row["question"])
    return {
        "messages": [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": said},
        ]
    }


def to_answers(value: Any, context: str) -> list[dict[str, Any]]:
    """Return each answer with its start; an empty list is a question that has no answer.

    A start that is missing or wrong is looked for. Raises UnusableRowError when no answer stands
    in the context.
    """
    said = list(_answers(_opened(value)))
    if not said:
        return []
    if all(not text.strip() for text, _ in said):
        raise UnusableRowError("empty-answer")
    found = []
    for text, start in said:
        if text.strip() and (place := _place(text, start, context)):
            found.append({"text": place[0], "start": place[1]})
    if not found:
        raise UnusableRowError("answer-not-in-context")
    return found


def _place(text: str, start: int | None, context: str) -> tuple[str, int] | None:
    if start is not None and start >= 0 and context[start : start + len(text)] == text:
        return text, start
    for wanted in (text, text.strip()):
        if start is not None and start >= 0:
            near = _nearest(wanted, start, context)
        else:
            near = context.find(wanted)
        if near >= 0:
            return wanted, near
    return None


def _nearest(text: str, start: int, context: str) -> int:
    """Return the occurrence nearest to a start that is off by a little."""
    before = context.rfind(text, 0, start + len(text))
    after = context.find(text, start)
    if before < 0 or after < 0:
        return max(before, after)
    return before if start - before <= after - start else after


def _opened(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _answers(value: Any) -> Iterator[_Said]:
    if isinstance(value, dict):
        texts = value.get("text")
        starts = value.get("answer_start", value.get("start"))
        if isinstance(texts, list):
            places = starts if isinstance(starts, list) else []
            for number, text in enumerate(texts):
                yield to_text(text), _start(places[number] if number < len(places) else None)
        elif texts is None:
            raise UnusableRowError("bad-answers")
        else:
            yield (
                to_text(texts),
                _start(starts[0] if isinstance(starts, list) and starts else starts),
            )
    elif isinstance(value, list):
        for each in value:
            yield from _answers(each)
    else:
        yield to_text(value), None


def _start(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
