"""Convert answers that are spans of a context, with the start of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelforge.data.canonical.cells import parse_cell
from modelforge.data.canonical.messages import UnusableRowError, to_text

QA_PROMPT = "Answer the question from this text.\n\n{context}\n\nQuestion: {question}"
# The completion that a generative model learns for a context without an answer.
NO_ANSWER = "The text does not say."


def to_chat_example(row: dict[str, Any]) -> dict[str, Any]:
    """Return a question about a context as a conversation, for generative models."""
    answers = row["answers"]
    completion = answers[0]["text"] if answers else NO_ANSWER
    prompt = QA_PROMPT.format(context=row["context"], question=row["question"])
    return {
        "messages": [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": completion},
        ]
    }


def to_answers(value: Any, context: str) -> list[dict[str, Any]]:
    """Return each answer with its start in the context; an empty list if there is no answer.

    A missing or wrong start is searched for. Raises UnusableRowError if no answer occurs in the
    context.
    """
    given = list(_read_answers(parse_cell(value)))
    if not given:
        return []
    if all(not text.strip() for text, _ in given):
        raise UnusableRowError("empty-answer")
    answers = []
    for text, start in given:
        place = _find_answer(text, start, context) if text.strip() else None
        if place is not None:
            answers.append({"text": place[0], "start": place[1]})
    if not answers:
        raise UnusableRowError("answer-not-in-context")
    return answers


def _find_answer(text: str, start: int | None, context: str) -> tuple[str, int] | None:
    if start is not None and start < 0:
        start = None
    if start is not None and context.startswith(text, start):
        return text, start
    for variant in (text, text.strip()):
        found = context.find(variant) if start is None else _nearest(variant, start, context)
        if found >= 0:
            return variant, found
    return None


def _nearest(text: str, start: int, context: str) -> int:
    """Return the occurrence of `text` nearest to `start`, or -1."""
    before = context.rfind(text, 0, start + len(text))
    after = context.find(text, start)
    if before < 0 or after < 0:
        return max(before, after)
    return before if start - before <= after - start else after


def _read_answers(value: Any) -> Iterator[tuple[str, int | None]]:
    """Yield text and start of each answer in a value of any known form."""
    if isinstance(value, list):
        for item in value:
            yield from _read_answers(item)
    elif isinstance(value, dict):
        yield from _read_answer_object(value)
    else:
        yield to_text(value), None


def _read_answer_object(value: dict[str, Any]) -> Iterator[tuple[str, int | None]]:
    texts = value.get("text")
    starts = value.get("answer_start", value.get("start"))
    if isinstance(texts, list):
        listed = starts if isinstance(starts, list) else []
        for index, text in enumerate(texts):
            yield to_text(text), _to_start(listed[index] if index < len(listed) else None)
    elif texts is None:
        raise UnusableRowError("bad-answers")
    else:
        start = starts[0] if isinstance(starts, list) and starts else starts
        yield to_text(texts), _to_start(start)


def _to_start(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
