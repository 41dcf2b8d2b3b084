"""Convert rows of every kind to the canonical form that training reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from modelforge.config.prompt_template import has_placeholder, render_parts
from modelforge.data.canonical.messages import (
    Message,
    UnusableRowError,
    is_empty_message,
    to_conversation,
    to_messages,
    to_text,
    to_tools,
)
from modelforge.data.canonical.preference import is_conversation, to_label, to_preference, to_prompt
from modelforge.data.canonical.qa import to_answers
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.formats.read import read_rows

Canonical = dict[str, Any]
Row = dict[str, Any]

SUMMARIZE_PROMPT = "Summarise this text.\n\n"
_MESSAGE_LISTS = ("prompt", "completion", "chosen", "rejected")


def read_canonical(
    path: Path, mapping: ColumnMapping, encoding: str | None = None
) -> Iterator[Canonical]:
    """Yield every usable row of a file in canonical form, in the order of the file."""
    return usable_rows(read_rows(path, encoding=encoding), mapping)


def usable_rows(rows: Iterable[tuple[int, Row]], mapping: ColumnMapping) -> Iterator[Canonical]:
    """Yield the rows that can be used in canonical form."""
    for _, data in rows:
        try:
            yield to_canonical(data, mapping)
        except UnusableRowError:
            continue


def to_canonical(row: Row, mapping: ColumnMapping) -> Canonical:
    """Return a row in canonical form; raises UnusableRowError with the cause.

    The form depends on the kind of row: {"text"}, {"messages", "tools"?},
    {"prompt", "chosen", "rejected", "tools"?}, {"prompt", "completion", "label"}, or
    {"context", "question", "answers": [{"text", "start"}]}. Messages, prompt, chosen, rejected and
    completion are lists of messages.
    """
    return _CONVERTERS[mapping.kind](row, mapping)


def fingerprint(row: Canonical) -> str:
    """Return the whole text of a canonical row, without outer white space: equal for equal rows.

    Its parts are separated by the control characters 0 to 3.
    """
    if "messages" in row:
        return _fingerprint_messages(row["messages"])
    if "text" in row:
        return str(row["text"]).strip()
    if "context" in row:
        answers = "\x01".join(answer["text"].strip() for answer in row["answers"])
        return "\x00".join((row["context"].strip(), row["question"].strip(), answers))
    parts = [_fingerprint_messages(row[part]) for part in _MESSAGE_LISTS if part in row]
    return "\x02".join([*parts, str(row.get("label", ""))])


def _fingerprint_messages(messages: list[Message]) -> str:
    return "\x00".join(
        f"{message['role']}\x01{message['content'].strip()}{_fingerprint_calls(message)}"
        for message in messages
    )


def _fingerprint_calls(message: Message) -> str:
    calls = message.get("tool_calls")
    return f"\x03{orjson.dumps(calls).decode()}" if calls else ""


def document_and_summary(row: Canonical) -> tuple[str, str] | None:
    """Return the source and target text of a row for a sequence-to-sequence model.

    The target is the last assistant message, the source everything before it. None if either is
    missing.
    """
    messages = row.get("messages", [])
    targets = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    if not targets:
        return None
    contents = [
        message["content"].removeprefix(SUMMARIZE_PROMPT).strip()
        for message in messages[: targets[-1]]
    ]
    document = "\n\n".join(content for content in contents if content)
    summary = messages[targets[-1]]["content"].strip()
    return (document, summary) if document and summary else None


def summarization_prefix(config: Any) -> str:
    """Return the text that a model's config puts before a document, such as that of T5."""
    tasks = getattr(config, "task_specific_params", None) or {}
    params = tasks.get("summarization") or {}
    return str(params.get("prefix") or getattr(config, "prefix", None) or "")


def _from_text(row: Row, mapping: ColumnMapping) -> Canonical:
    return {"text": _required_text(row, mapping.fields["text"], "empty-text")}


def _from_messages(row: Row, mapping: ColumnMapping) -> Canonical:
    messages = to_conversation(row.get(mapping.fields["messages"]), mapping.properties)
    return _chat(messages, row, mapping)


def _from_pair(row: Row, mapping: ColumnMapping) -> Canonical:
    fields, properties = mapping.fields, mapping.properties
    prompt = row.get(fields["prompt"])
    if not is_conversation(prompt):
        text = _required_text(row, fields["prompt"], "empty-question")
        return _from_prompt(row, mapping, text, "")
    messages = to_messages(prompt, properties)
    completion = row.get(fields["answer"])
    if is_conversation(completion):
        messages += to_conversation(completion, properties)
    else:
        text = _required_text(row, fields["answer"], "empty-answer")
        messages.append({"role": "assistant", "content": text})
    return _chat(messages, row, mapping)


def _from_instruction(row: Row, mapping: ColumnMapping) -> Canonical:
    instruction = _required_text(row, mapping.fields["instruction"], "empty-question")
    column = mapping.fields.get("input")
    more = to_text(row.get(column)) if column else ""
    return _from_prompt(row, mapping, instruction, more if more.strip() else "")


def _from_summary(row: Row, mapping: ColumnMapping) -> Canonical:
    document = _required_text(row, mapping.fields["document"], "empty-question")
    summary = _required_text(row, mapping.fields["summary"], "empty-answer")
    return _chat(_pair(f"{SUMMARIZE_PROMPT}{document}", summary), row, mapping)


def _from_prompt(row: Row, mapping: ColumnMapping, instruction: str, more: str) -> Canonical:
    """Return instruction, input and completion as messages, in the prompt format if any."""
    completion = _required_text(row, mapping.fields["answer"], "empty-answer")
    template = mapping.prompt_format
    if not more and mapping.prompt_format_no_input:
        template = mapping.prompt_format_no_input
    if template is None:
        prompt = f"{instruction}\n\n{more}" if more else instruction
        return _chat(_pair(prompt, completion), row, mapping)
    values = {
        "system": _system_prompt(row, mapping),
        "instruction": instruction,
        "input": more,
        "output": completion,
    }
    messages = _pair(*render_parts(template, values))
    if has_placeholder(template, "system"):  # which does not become a message as well
        return {"messages": messages}
    return _chat(messages, row, mapping)


def _from_preference(row: Row, mapping: ColumnMapping) -> Canonical:
    fields = mapping.fields
    for part, code in (("chosen", "missing-chosen"), ("rejected", "missing-rejected")):
        if row.get(fields[part]) is None:
            raise UnusableRowError(code)
    prompt, chosen, rejected = to_preference(
        row.get(fields["prompt"]) if "prompt" in fields else None,
        row[fields["chosen"]],
        row[fields["rejected"]],
        mapping.properties,
    )
    prompt = _with_system_prompt(prompt, _system_prompt(row, mapping))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected} | _tools(row, mapping)


def _from_labelled(row: Row, mapping: ColumnMapping) -> Canonical:
    fields = mapping.fields
    prompt = to_prompt(row.get(fields["prompt"]), mapping.properties)
    value = row.get(fields["completion"])
    if is_conversation(value):
        completion = to_messages(value, mapping.properties)
    else:
        text = to_text(value, fields["completion"] in row)
        completion = [{"role": "assistant", "content": text}]
    if all(is_empty_message(message) for message in completion):
        raise UnusableRowError("empty-answer")
    label = to_label(row.get(fields["label"]))
    prompt = _with_system_prompt(prompt, _system_prompt(row, mapping))
    return {"prompt": prompt, "completion": completion, "label": label}


def _from_span(row: Row, mapping: ColumnMapping) -> Canonical:
    fields = mapping.fields
    context = _required_text(row, fields["context"], "empty-context")
    question = _required_text(row, fields["question"], "empty-question")
    if fields["answers"] not in row:
        raise UnusableRowError("missing-field")
    answers = to_answers(row[fields["answers"]], context)
    return {"context": context, "question": question, "answers": answers}


_CONVERTERS: dict[str, Callable[[Row, ColumnMapping], Canonical]] = {
    "text": _from_text,
    "messages": _from_messages,
    "pair": _from_pair,
    "instruction": _from_instruction,
    "summary": _from_summary,
    "preference": _from_preference,
    "preference-label": _from_labelled,
    "span": _from_span,
}


def _pair(prompt: str, completion: str) -> list[Message]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]


def _chat(messages: list[Message], row: Row, mapping: ColumnMapping) -> Canonical:
    messages = _with_system_prompt(messages, _system_prompt(row, mapping))
    return {"messages": messages} | _tools(row, mapping)


def _with_system_prompt(messages: list[Message], system_prompt: str) -> list[Message]:
    """Return the messages after a system message, which replaces one of their own."""
    if not system_prompt:
        return messages
    rest = messages[1:] if messages[0]["role"] == "system" else messages
    return [{"role": "system", "content": system_prompt}, *rest]


def _system_prompt(row: Row, mapping: ColumnMapping) -> str:
    if mapping.system_prompt is not None:
        return mapping.system_prompt
    column = mapping.fields.get("system")
    text = to_text(row.get(column)) if column else ""
    return text if text.strip() else ""


def _tools(row: Row, mapping: ColumnMapping) -> Canonical:
    column = mapping.fields.get("tools")
    tools = to_tools(row.get(column)) if column else []
    return {"tools": tools} if tools else {}


def _required_text(row: Row, column: str, code: str) -> str:
    """Return the text in a column; raises UnusableRowError with `code` if it is blank."""
    value = row.get(column)
    text = value if type(value) is str else to_text(value, column in row)
    if not text.strip():
        raise UnusableRowError(code)
    return text
