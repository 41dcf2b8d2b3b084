"""One row to the form that training reads, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from modelforge.config.prompt_template import has_placeholder, render_parts
from modelforge.data.canonical.messages import (
    ROLES,
    Message,
    UnusableRowError,
    is_empty,
    to_conversation,
    to_messages,
    to_text,
    to_tools,
)
from modelforge.data.canonical.preference import is_conversation, to_label, to_preference, to_prompt
from modelforge.data.canonical.qa import to_answers
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.formats.read import read_rows

__all__ = [
    "ROLES",
    "Canonical",
    "UnusableRowError",
    "document_and_summary",
    "fingerprint",
    "read_canonical",
    "to_canonical",
]

Canonical = dict[str, Any]
Row = dict[str, Any]

SUMMARIZE_PROMPT = "Summarise this text.\n\n"


def read_canonical(path: Path, mapping: ColumnMapping) -> Iterator[Canonical]:
    """Yield every usable row of `path` in canonical form, in the order of the file."""
    for row in read_rows(path):
        try:
            yield to_canonical(row.data, mapping)
        except UnusableRowError:
            continue


def to_canonical(row: Row, mapping: ColumnMapping) -> Canonical:
    """Return the row as training reads it; raises UnusableRowError with the cause.

    {"text"} · {"messages", "tools"?} · {"prompt", "chosen", "rejected", "tools"?} ·
    {"prompt", "completion", "label"} · {"context", "question", "answers": [{"text", "start"}]},
    where messages, prompt, chosen, rejected and completion are lists of turns.
    """
    return _READERS[mapping.kind](row, mapping)


def fingerprint(row: Canonical) -> str:
    """Return all that a canonical row says, outer white space aside: equal rows, equal text."""
    if "messages" in row:
        return _print(row["messages"])
    if "text" in row:
        return str(row["text"]).strip()
    if "context" in row:
        answers = "\x01".join(answer["text"].strip() for answer in row["answers"])
        return "\x00".join((row["context"].strip(), row["question"].strip(), answers))
    parts = [_print(row[part]) for part in _LISTS if part in row]
    return "\x02".join([*parts, str(row.get("label", ""))])


_LISTS = ("prompt", "completion", "chosen", "rejected")


def _print(turns: list[Message]) -> str:
    return "\x00".join(
        f"{turn['role']}\x01{turn['content'].strip()}{_calls(turn)}" for turn in turns
    )


def _calls(turn: Message) -> str:
    calls = turn.get("tool_calls")
    return f"\x03{orjson.dumps(calls).decode()}" if calls else ""


def document_and_summary(row: Canonical) -> tuple[str, str] | None:
    """Return what is read and what is to be written of it, for models that know no turns.

    That is the last answer and all that was said before it; None where nothing was.
    """
    turns = row.get("messages", [])
    last = max((n for n, turn in enumerate(turns) if turn["role"] == "assistant"), default=0)
    read = [turn["content"].removeprefix(SUMMARIZE_PROMPT).strip() for turn in turns[:last]]
    document, summary = "\n\n".join(text for text in read if text), ""
    if document:
        summary = turns[last]["content"].strip()
    return (document, summary) if summary else None


def summarization_prefix(config: Any) -> str:
    """Return what a model's config wants before a text to summarise, as those of T5 do."""
    tasks = getattr(config, "task_specific_params", None) or {}
    told = tasks.get("summarization") or {}
    return str(told.get("prefix") or getattr(config, "prefix", None) or "")


def _text(row: Row, mapping: ColumnMapping) -> Canonical:
    return {"text": _filled(row, mapping.fields["text"], "empty-text")}


def _messages(row: Row, mapping: ColumnMapping) -> Canonical:
    turns = to_conversation(row.get(mapping.fields["messages"]), mapping.properties)
    return _chat(turns, row, mapping)


def _pair(row: Row, mapping: ColumnMapping) -> Canonical:
    fields = mapping.fields
    if is_conversation(row.get(fields["prompt"])):
        answer = row.get(fields["answer"])
        said = answer if is_conversation(answer) else None
        turns = to_messages(row[fields["prompt"]], mapping.properties)
        if said is not None:
            return _chat([*turns, *to_conversation(said, mapping.properties)], row, mapping)
        text = _filled(row, fields["answer"], "empty-answer")
        return _chat([*turns, {"role": "assistant", "content": text}], row, mapping)
    question = _filled(row, fields["prompt"], "empty-question")
    return _asked(row, mapping, question, "")


def _instruction(row: Row, mapping: ColumnMapping) -> Canonical:
    question = _filled(row, mapping.fields["instruction"], "empty-question")
    column = mapping.fields.get("input")
    more = to_text(row.get(column)) if column else ""
    return _asked(row, mapping, question, more if more.strip() else "")


def _summary(row: Row, mapping: ColumnMapping) -> Canonical:
    document = _filled(row, mapping.fields["document"], "empty-question")
    summary = _filled(row, mapping.fields["summary"], "empty-answer")
    return _chat(_two(f"{SUMMARIZE_PROMPT}{document}", summary), row, mapping)


def _asked(row: Row, mapping: ColumnMapping, question: str, more: str) -> Canonical:
    answer = _filled(row, mapping.fields["answer"], "empty-answer")
    text = mapping.prompt_format
    if not more and mapping.prompt_format_no_input:
        text = mapping.prompt_format_no_input
    if text is None:
        return _chat(_two(f"{question}\n\n{more}" if more else question, answer), row, mapping)
    values = {
        "system": _system(row, mapping),
        "instruction": question,
        "input": more,
        "output": answer,
    }
    turns = _two(*render_parts(text, values))
    # A system prompt that is laid out among the rest is not said again.
    return {"messages": turns} if has_placeholder(text, "system") else _chat(turns, row, mapping)


def _preference(row: Row, mapping: ColumnMapping) -> Canonical:
    fields = mapping.fields
    for part, code in (("chosen", "missing-chosen"), ("rejected", "missing-rejected")):
        if row.get(fields[part]) is None:
            raise UnusableRowError(code)
    prompt = row.get(fields["prompt"]) if "prompt" in fields else None
    question, better, worse = to_preference(
        prompt, row[fields["chosen"]], row[fields["rejected"]], mapping.properties
    )
    question = _led(question, _system(row, mapping))
    found = {"prompt": question, "chosen": better, "rejected": worse}
    return found | _tools(row, mapping)


def _labelled(row: Row, mapping: ColumnMapping) -> Canonical:
    fields = mapping.fields
    question = to_prompt(row.get(fields["prompt"]), mapping.properties)
    said = row.get(fields["completion"])
    if is_conversation(said):
        answer = to_messages(said, mapping.properties)
    else:
        answer = [{"role": "assistant", "content": to_text(said, fields["completion"] in row)}]
    if all(is_empty(turn) for turn in answer):
        raise UnusableRowError("empty-answer")
    good = to_label(row.get(fields["label"]))
    return {"prompt": _led(question, _system(row, mapping)), "completion": answer, "label": good}


def _span(row: Row, mapping: ColumnMapping) -> Canonical:
    fields = mapping.fields
    context = _filled(row, fields["context"], "empty-context")
    question = _filled(row, fields["question"], "empty-question")
    if fields["answers"] not in row:
        raise UnusableRowError("missing-field")
    answers = to_answers(row[fields["answers"]], context)
    return {"context": context, "question": question, "answers": answers}


_READERS: dict[str, Callable[[Row, ColumnMapping], Canonical]] = {
    "text": _text,
    "messages": _messages,
    "pair": _pair,
    "instruction": _instruction,
    "summary": _summary,
    "preference": _preference,
    "preference-label": _labelled,
    "span": _span,
}


def _two(question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _chat(turns: list[Message], row: Row, mapping: ColumnMapping) -> Canonical:
    return {"messages": _led(turns, _system(row, mapping))} | _tools(row, mapping)


def _led(turns: list[Message], system: str) -> list[Message]:
    """Return the turns behind a system message; it takes the place of one of their own."""
    if not system:
        return turns
    rest = turns[1:] if turns[0]["role"] == "system" else turns
    return [{"role": "system", "content": system}, *rest]


def _system(row: Row, mapping: ColumnMapping) -> str:
    if mapping.system_prompt is not None:
        return mapping.system_prompt
    column = mapping.fields.get("system")
    said = to_text(row.get(column)) if column else ""
    return said if said.strip() else ""


def _tools(row: Row, mapping: ColumnMapping) -> Canonical:
    column = mapping.fields.get("tools")
    tools = to_tools(row.get(column)) if column else []
    return {"tools": tools} if tools else {}


def _filled(row: Row, column: str, code: str) -> str:
    value = row.get(column)
    text = value if type(value) is str else to_text(value, column in row)
    if not text.strip():
        raise UnusableRowError(code)
    return text
