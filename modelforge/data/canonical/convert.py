"""Convert rows of every kind to the canonical form that training reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from modelforge.config.prompt_template import has_placeholder, render_parts
from modelforge.data.canonical.cells import conversation_in, is_plain_text, parse_cell
from modelforge.data.canonical.messages import (
    Message,
    UnusableRowError,
    is_empty_message,
    refuse_left_out,
    to_conversation,
    to_history,
    to_messages,
    to_system_text,
    to_text,
    to_tools,
)
from modelforge.data.canonical.preference import (
    refuse_broken_conversation,
    split_last_answer,
    to_label,
    to_preference,
)
from modelforge.data.canonical.qa import to_answers
from modelforge.data.canonical.segments import are_segments, to_segments
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.formats.joining import JoinOptions
from modelforge.data.formats.options import DEFAULT_OPTIONS, ReadOptions
from modelforge.data.formats.read import read_rows

Canonical = dict[str, Any]
Row = dict[str, Any]

SUMMARIZE_PROMPT = "Summarise this text.\n\n"
# The part of a row that asks, by the kind of the rows.
_PROMPT_PARTS = {
    "pair": "prompt",
    "instruction": "instruction",
    "preference": "prompt",
    "preference-label": "prompt",
}
# The part of a row that answers; of a preference pair, the better completion continues it.
_ANSWER_PARTS = ("answer", "completion", "chosen")
_MESSAGE_LISTS = ("prompt", "completion", "chosen", "rejected")


def read_canonical(
    path: Path, mapping: ColumnMapping, options: ReadOptions = DEFAULT_OPTIONS
) -> Iterator[Canonical]:
    """Yield every usable row of a file in canonical form, in the order of the file."""
    join = JoinOptions.from_dict(mapping.join)
    return usable_rows(read_rows(path, options=options, join=join), mapping)


def usable_rows(rows: Iterable[tuple[int, Row]], mapping: ColumnMapping) -> Iterator[Canonical]:
    """Yield the rows that can be used in canonical form."""
    for _, data in rows:
        try:
            yield to_canonical(data, mapping)
        except UnusableRowError:
            continue


def to_canonical(row: Row, mapping: ColumnMapping) -> Canonical:
    """Return a row in canonical form; raises UnusableRowError with the cause.

    The form depends on the kind of row: {"text", "segments"?}, {"messages", "tools"?},
    {"prompt", "chosen", "rejected", "tools"?}, {"prompt", "completion", "label"}, or
    {"context", "question", "answers": [{"text", "start"}]}. Messages, prompt, chosen, rejected and
    completion are lists of messages; segments are lists of start, end and whether it is trained.
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
        f"{message['role']}\x01{message['content'].strip()}{_fingerprint_more(message)}"
        for message in messages
    )


def _fingerprint_more(message: Message) -> str:
    if len(message) == 2:
        return ""
    reasoning, calls = message.get("reasoning_content"), message.get("tool_calls")
    text = f"\x03{reasoning}" if reasoning else ""
    return f"{text}\x03{orjson.dumps(calls).decode()}" if calls else text


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
    value = row.get(mapping.fields["text"])
    if conversation_in(value) is not None:
        if are_segments(value):  # in a column that is set by hand
            return _segmented(value)
        return _chat(to_conversation(value, {}), row, mapping)
    return {"text": _required_text(row, mapping.fields["text"], "empty-text")}


def _from_segments(row: Row, mapping: ColumnMapping) -> Canonical:
    column = mapping.fields["segments"]
    if column not in row:
        raise UnusableRowError("missing-field")
    return _segmented(row[column])


def _segmented(value: Any) -> Canonical:
    text, segments = to_segments(value)
    return {"text": text, "segments": segments}


def _from_messages(row: Row, mapping: ColumnMapping) -> Canonical:
    messages = to_conversation(row.get(mapping.fields["messages"]), mapping.properties)
    return _chat(messages, row, mapping)


def _from_pair(row: Row, mapping: ColumnMapping) -> Canonical:
    fields = mapping.fields
    prompt, answer = fields[_PROMPT_PARTS[mapping.kind]], fields["answer"]
    texts = [row.get(prompt), row.get(answer)]
    is_text = all(map(is_plain_text, texts)) or not any(map(_is_conversation, texts))
    if is_text and mapping.prompt_format:
        text = _required_text(row, prompt, "empty-question")
        return _from_template(row, mapping, text, _input(row, mapping))
    if is_text and "history" not in fields:
        text, more = _required_text(row, prompt, "empty-question"), _input(row, mapping)
        text = f"{text}\n\n{more}" if more else text
        return _chat(_pair(text, _required_text(row, answer, "empty-answer")), row, mapping)
    messages = [*_prompt(row, mapping), *_completion(row, mapping, answer)]
    return _chat(messages if is_text else to_conversation(messages, {}), row, mapping)


def _is_conversation(value: Any) -> bool:
    return conversation_in(value) is not None


def _prompt(row: Row, mapping: ColumnMapping) -> list[Message]:
    """Return history, prompt and input as messages; the input is joined to the last question."""
    column = mapping.fields[_PROMPT_PARTS[mapping.kind]]
    more = _input(row, mapping)
    if conversation_in(row.get(column)) is not None:
        messages = to_messages(row[column], mapping.properties)
    else:
        messages = [_user(_required_text(row, column, "empty-question"))]
    if more and messages[-1]["role"] == "user":
        messages[-1] = _user(f"{messages[-1]['content']}\n\n{more}")
    elif more:
        messages.append(_user(more))
    return [*_history(row, mapping), *messages]


def _history(row: Row, mapping: ColumnMapping) -> list[Message]:
    """Return the messages before the prompt: a history, or the earlier rows of a conversation."""
    column = mapping.fields.get("history")
    if column is None:
        return []
    refuse_left_out(row.get(column))
    rounds = _rounds(row, mapping)
    if not rounds:
        return to_history(row.get(column), mapping.properties)
    # Their own history is empty, since they have no such column.
    answer = next(mapping.fields[part] for part in _ANSWER_PARTS if part in mapping.fields)
    return [
        message
        for earlier in rounds
        for message in (*_prompt(earlier, mapping), *_completion(earlier, mapping, answer))
    ]


def _rounds(row: Row, mapping: ColumnMapping) -> list[Row]:
    """Return the earlier rows of a conversation, if rows are joined by the id of their parent."""
    value = row.get(mapping.fields.get("history", ""))
    prompt = mapping.fields.get(_PROMPT_PARTS.get(mapping.kind, ""))
    if not isinstance(value, list) or prompt is None:
        return []
    return value if all(isinstance(item, dict) and prompt in item for item in value) else []


def _completion(row: Row, mapping: ColumnMapping, column: str) -> list[Message]:
    """Return the completion as messages."""
    if conversation_in(row.get(column)) is not None:
        return to_messages(row[column], mapping.properties)
    text = _required_text(row, column, "empty-answer")
    return [{"role": "assistant", "content": text}]


def _input(row: Row, mapping: ColumnMapping) -> str:
    column = mapping.fields.get("input")
    text = to_text(row.get(column)) if column else ""
    return text if text.strip() else ""


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _from_summary(row: Row, mapping: ColumnMapping) -> Canonical:
    document = _required_text(row, mapping.fields["document"], "empty-question")
    summary = _required_text(row, mapping.fields["summary"], "empty-answer")
    return _chat(_pair(f"{SUMMARIZE_PROMPT}{document}", summary), row, mapping)


def _from_template(row: Row, mapping: ColumnMapping, instruction: str, more: str) -> Canonical:
    """Return instruction, input and completion as messages in the prompt format."""
    template = mapping.prompt_format
    if not more and mapping.prompt_format_no_input:
        template = mapping.prompt_format_no_input
    assert template is not None
    values = {
        "system": _system_prompt(row, mapping),
        "instruction": instruction,
        "input": more,
        "output": _required_text(row, mapping.fields["answer"], "empty-answer"),
    }
    messages = [*_history(row, mapping), *_pair(*render_parts(template, values))]
    if has_placeholder(template, "system"):  # which does not become a message as well
        return {"messages": messages}
    return _chat(messages, row, mapping)


def _from_preference(row: Row, mapping: ColumnMapping) -> Canonical:
    fields = mapping.fields
    chosen, rejected = row.get(fields["chosen"]), row.get(fields["rejected"])
    refuse_left_out(chosen)
    if fields["chosen"] == fields["rejected"]:  # one list with the better and the worse completion
        chosen, rejected = _two_completions(chosen)
    if chosen is None:
        raise UnusableRowError("missing-chosen")
    if rejected is None:
        raise UnusableRowError("missing-rejected")
    has_prompt = "prompt" in fields and row.get(fields["prompt"]) not in (None, "", [])
    prompt = _prompt(row, mapping) if has_prompt else []
    prompt, chosen, rejected = to_preference(prompt, chosen, rejected, mapping.properties)
    prompt = _with_system_prompt(prompt, _system_prompt(row, mapping))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected} | _tools(row, mapping)


def _two_completions(value: Any) -> tuple[Any, Any]:
    values = parse_cell(value)
    if not isinstance(values, list) or len(values) != 2:
        raise UnusableRowError("missing-rejected")
    return values[0], values[1]


def _from_labelled(row: Row, mapping: ColumnMapping) -> Canonical:
    fields = mapping.fields
    if "messages" in fields:
        messages = to_conversation(row.get(fields["messages"]), mapping.properties)
        prompt, completion = split_last_answer(messages)
    else:
        prompt = _prompt(row, mapping)
        completion = _completion(row, mapping, fields["completion"])
    if not prompt:
        raise UnusableRowError("no-prompt")
    if all(is_empty_message(message) for message in completion):
        raise UnusableRowError("empty-answer")
    label = to_label(row.get(fields["label"]))
    prompt = _with_system_prompt(prompt, _system_prompt(row, mapping))
    row_of_label = {"prompt": prompt, "completion": completion, "label": label}
    return row_of_label | _tools(row, mapping)


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
    "instruction": _from_pair,
    "summary": _from_summary,
    "preference": _from_preference,
    "preference-label": _from_labelled,
    "span": _from_span,
    "segments": _from_segments,
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
    if not column:
        return ""
    rounds = _rounds(row, mapping)
    text = to_system_text((rounds[0] if rounds else row).get(column))
    return text if text.strip() else ""


def _tools(row: Row, mapping: ColumnMapping) -> Canonical:
    column = mapping.fields.get("tools")
    value = row.get(column) if column else None
    if column is None and "prompt" in mapping.fields:
        prompt = row.get(mapping.fields["prompt"])
        value = prompt.get("tools") if isinstance(prompt, dict) else None
    tools = to_tools(value)
    return {"tools": tools} if tools else {}


def _required_text(row: Row, column: str, code: str) -> str:
    """Return the text in a column; raises UnusableRowError with `code` if it is blank."""
    value = row.get(column)
    text = value if type(value) is str else to_text(value, column in row)
    if not text.strip():
        raise UnusableRowError(code)
    refuse_broken_conversation(text)
    return text
