"""Repair rows finding by finding; a row that cannot be repaired is removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from modelforge.data.canonical.cells import part_text
from modelforge.data.canonical.convert import to_canonical
from modelforge.data.canonical.messages import UnusableRowError
from modelforge.data.checks.rows import CheckOptions, RowChecker, score_columns
from modelforge.data.checks.rules import DROP, RULES
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.repair.log import RepairLog
from modelforge.data.repair.text import TEXT_REPAIRS, repair_texts

Data = dict[str, Any]
# The codes of findings whose rows are removed.
REMOVED = frozenset(code for code, rule in RULES.items() if rule.repair == DROP) | {
    "duplicate-rows"
}
# Repaired before all others, because the row cannot be converted until then.
_CONTENT_CODES = frozenset({"null-content", "image-content", "nested-column"})


class RowRepairer:
    """Repairs the rows of one file and counts the changes in `log`."""

    def __init__(self, mapping: ColumnMapping, codes: frozenset[str], log: RepairLog) -> None:
        self.mapping = mapping
        self.codes = codes
        self.log = log
        self._checker = RowChecker(CheckOptions(mapping))
        self._seen: set[int] = set()

    def repair(self, line: int, data: Data, raw: bytes | None = None) -> Data | None:
        """Return the repaired row; None if it is removed."""
        original = data
        found = self._check(line, data, raw)
        if found & self.codes & _CONTENT_CODES:
            data = self._with_text_contents(data, found)
            found = self._check(line, data, None)
        for code in sorted(found & self.codes):
            repaired = self._repair_code(code, data)
            if repaired is None:
                self.log.remove(code, line)
                return None
            if repaired is not data:
                self.log.changes[code] += 1
            data = repaired
        unusable = self._unusable_code(data)
        if unusable is not None:
            self.log.remove(unusable, line)
            return None
        if data is not original:
            self.log.fix(line)
        return data

    def _check(self, line: int, data: Data, raw: bytes | None) -> set[str]:
        """Return the codes of the findings in one row."""
        counters = self._checker.counters
        counters.counts.clear()
        counters.places.clear()
        del counters.fingerprints[:], counters.fingerprint_lines[:], counters.prompts[:]
        row = self._checker.check(line, data, raw)
        if row is not None and counters.fingerprints:
            fingerprint = counters.fingerprints[0]
            if fingerprint in self._seen:
                counters.record("duplicate-rows", line)
            self._seen.add(fingerprint)
        return set(counters.counts)

    def _with_text_contents(self, data: Data, found: set[str]) -> Data:
        key = self.mapping.properties.get("content", "content")
        data = dict(data)
        for column in self.mapping.fields.values():
            value = data.get(column)
            if isinstance(value, list):
                data[column] = _keep_text_contents(value, key)
            elif isinstance(value, dict):
                data[column] = orjson.dumps(value, default=str).decode()
        self.log.changes.update(found & _CONTENT_CODES)
        return data

    def _repair_code(self, code: str, data: Data) -> Data | None:
        """Return the row without this finding; the same object if nothing can be done."""
        if code in REMOVED:
            return None
        if code in TEXT_REPAIRS:
            return self._with_repaired_texts(code, data)
        if code in _MESSAGE_REPAIRS and self.mapping.kind == "messages":
            messages = _MESSAGE_REPAIRS[code](to_canonical(data, self.mapping)["messages"])
            if not any(message["role"] == "assistant" for message in messages):
                return None
            return data | {self.mapping.fields["messages"]: self._with_own_keys(messages)}
        return _ROW_REPAIRS[code](data, self.mapping) if code in _ROW_REPAIRS else data

    def _with_repaired_texts(self, code: str, data: Data) -> Data:
        columns = set(self.mapping.fields.values())
        repaired = {
            name: repair_texts(value, TEXT_REPAIRS[code]) if name in columns else value
            for name, value in data.items()
        }
        return data if repaired == data else repaired

    def _with_own_keys(self, messages: list[Data]) -> list[Data]:
        """Return messages with the keys that this file uses."""
        keys = self.mapping.properties
        return [{keys.get(key, key): value for key, value in each.items()} for each in messages]

    def _unusable_code(self, data: Data) -> str | None:
        """Return the code for which a row that cannot be used is removed."""
        try:
            to_canonical(data, self.mapping)
        except UnusableRowError as error:
            if error.code in self.codes or error.code not in RULES:
                return error.code
        return None


def _keep_read_columns(data: Data, mapping: ColumnMapping) -> Data:
    # Columns that are set as unused are named by the source, which the copy takes over.
    kept = (*mapping.fields.values(), *mapping.unused_as_set)
    return {name: data[name] for name in kept if name in data}


def _remove_prompt(data: Data, mapping: ColumnMapping) -> Data:
    fields = mapping.fields
    prompt = str(data.get(fields.get("prompt", ""), "")).strip()
    data = dict(data)
    for part in ("chosen", "rejected"):
        text = data.get(fields[part])
        if prompt and isinstance(text, str) and text.lstrip().startswith(prompt):
            data[fields[part]] = text.lstrip()[len(prompt) :].lstrip()
    return data


def _swap_completions(data: Data, mapping: ColumnMapping) -> Data:
    pairs = [(mapping.fields["chosen"], mapping.fields["rejected"]), *score_columns(mapping)]
    data = dict(data)
    for chosen, rejected in pairs:
        if chosen in data and rejected in data:
            data[chosen], data[rejected] = data[rejected], data[chosen]
    return data


_ROW_REPAIRS: dict[str, Callable[[Data, ColumnMapping], Data]] = {
    "many-columns": _keep_read_columns,
    "prompt-inside-chosen": _remove_prompt,
    "scores-reversed": _swap_completions,
    # A parsed row has no duplicate keys any more; the copy counts as a change.
    "duplicate-key": lambda data, _mapping: dict(data),
}
Message = dict[str, Any]


def _join_consecutive(messages: list[Message]) -> list[Message]:
    joined: list[Message] = []
    for message in messages:
        last = joined[-1] if joined else None
        if last is not None and _can_join(last, message):
            content = f"{last['content']}\n\n{message['content']}".strip()
            joined[-1] = {**last, "content": content}
        else:
            joined.append(message)
    return joined


def _can_join(first: Message, second: Message) -> bool:
    has_calls = first.get("tool_calls") or second.get("tool_calls")
    return first["role"] == second["role"] != "tool" and not has_calls


def _join_system_messages(messages: list[Message]) -> list[Message]:
    """Return the messages with all system messages joined at the start."""
    contents = [message["content"] for message in messages if message["role"] == "system"]
    rest = [message for message in messages if message["role"] != "system"]
    text = "\n\n".join(content for content in contents if content.strip())
    return _join_consecutive([{"role": "system", "content": text}, *rest] if text else rest)


def _begin_with_user(messages: list[Message]) -> list[Message]:
    """Return the system message and the messages from the first user message on."""
    system = [message for message in messages[:1] if message["role"] == "system"]
    for index, message in enumerate(messages):
        if message["role"] == "user":
            return [*system, *messages[index:]]
    return system


def _end_with_assistant(messages: list[Message]) -> list[Message]:
    indices = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    return messages[: indices[-1] + 1] if indices else messages


def _drop_empty(messages: list[Message]) -> list[Message]:
    return [
        message for message in messages if message["content"].strip() or message.get("tool_calls")
    ]


_MESSAGE_REPAIRS: dict[str, Callable[[list[Message]], list[Message]]] = {
    "several-system-messages": _join_system_messages,
    "system-message-not-first": _join_system_messages,
    "assistant-message-first": _begin_with_user,
    "consecutive-user-messages": _join_consecutive,
    "consecutive-assistant-messages": _join_consecutive,
    "ends-without-answer": _end_with_assistant,
    "empty-message": _drop_empty,
}


# The codes of all findings that are repaired.
REPAIRED = REMOVED.union(_CONTENT_CODES, TEXT_REPAIRS, _MESSAGE_REPAIRS, _ROW_REPAIRS)


def _keep_text_contents(messages: list[Any], key: str) -> list[Any]:
    """Return raw messages without null contents, and with the text parts of lists only."""
    kept = []
    for message in messages:
        if not isinstance(message, dict):
            continue
        content = message.get(key)
        if isinstance(content, list):
            texts = [text for part in content if (text := part_text(part)) is not None]
            kept.append({**message, key: "\n".join(texts)})
        elif content is not None or message.get("tool_calls"):
            kept.append(message)
    return kept
