"""One row to the form that training reads: messages, or plain text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from modelforge.data.detect import Mapping
from modelforge.data.read import read_rows

ROLES = ("system", "user", "assistant")
Canonical = dict[str, Any]


class UnusableRowError(ValueError):
    """A row that nothing can be learned from; `code` is stable and names the cause."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def iterate(path: Path, mapping: Mapping) -> Iterator[Canonical]:
    """Yield every usable row of `path` in canonical form, in the order of the file."""
    for row in read_rows(path):
        try:
            yield canonical(row.data, mapping)
        except UnusableRowError:
            continue


def canonical(row: dict[str, Any], mapping: Mapping) -> Canonical:
    """Return {"messages": […]} or {"text": …}; raises UnusableRowError with the cause."""
    fields = mapping.fields
    if mapping.kind == "text":
        return {"text": _filled(row, fields["text"], "empty-text")}
    if mapping.kind == "messages":
        return {"messages": _conversation(row.get(fields["messages"]))}
    if mapping.kind == "instruction":
        question = _filled(row, fields["instruction"], "empty-question")
        if "input" in fields and (more := _text(row.get(fields["input"]))).strip():
            question = f"{question}\n\n{more}"
    else:
        question = _filled(row, fields["prompt"], "empty-question")
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": _filled(row, fields["answer"], "empty-answer")},
    ]
    if "system" in fields and (system := _text(row.get(fields["system"]))).strip():
        messages.insert(0, {"role": "system", "content": system})
    return {"messages": messages}


def fingerprint(row: Canonical) -> str:
    """Return all that a canonical row says, outer white space aside: equal rows, equal text."""
    if "text" in row:
        return str(row["text"]).strip()
    return "\x00".join(f"{turn['role']}\x01{turn['content'].strip()}" for turn in row["messages"])


def _filled(row: dict[str, Any], column: str, code: str) -> str:
    value = row.get(column)
    text = value if type(value) is str else _text(value, column in row)
    if not text.strip():
        raise UnusableRowError(code)
    return text


def _text(value: Any, present: bool = True) -> str:
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


def _conversation(value: Any) -> list[dict[str, str]]:
    if isinstance(value, str):
        value = _parsed(value)
    if not isinstance(value, list) or not value:
        raise UnusableRowError("bad-messages")
    turns = [_turn(turn) for turn in value]
    answers = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    if not answers:
        raise UnusableRowError("no-answer-turn")
    if any(not answer.strip() for answer in answers):
        raise UnusableRowError("empty-answer")
    return turns


def _turn(turn: Any) -> dict[str, str]:
    if not isinstance(turn, dict) or "role" not in turn:
        raise UnusableRowError("bad-messages")
    role = turn["role"]
    if role not in ROLES:
        raise UnusableRowError("unknown-role")
    content = turn.get("content")
    if isinstance(content, list):
        content = _parts(content)
    return {"role": role, "content": content if type(content) is str else _text(content)}


def _parts(parts: list[Any]) -> str:
    """Join the text parts of a content list; anything but text makes the row unusable."""
    texts = []
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            raise UnusableRowError("not-text")
        texts.append(part["text"])
    return "".join(texts)


def _parsed(text: str) -> Any:
    """Read a conversation out of a CSV cell, where it stands as JSON text."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise UnusableRowError("bad-messages") from None
