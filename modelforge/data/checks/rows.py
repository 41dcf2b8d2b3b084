"""Checks of single rows, which fill the counters of a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from modelforge.data.canonical.convert import Canonical, fingerprint, to_canonical
from modelforge.data.canonical.messages import UnusableRowError
from modelforge.data.checks.counters import MAX_FINGERPRINTS, Counters
from modelforge.data.checks.locate import duplicate_key, exceeds_depth, locate_error
from modelforge.data.checks.text import (
    CONTROL,
    LAST_SEPARATOR,
    check_answer,
    check_text,
    detect_script,
    is_near_empty,
)
from modelforge.data.columns.mapping import ColumnMapping

MAX_NESTING = 64
MANY_COLUMNS = 1_000
# Scripts are reported as shares: after this many completions only every 16th is examined.
_MAX_SCRIPTS = 20_000
_SCRIPT_INTERVAL = 16
_MAX_PROMPT_CHARS = 2_000
_MESSAGE_PARTS = ("messages", "chosen", "rejected", "completion")
# JSON numbers from here on may have lost digits.
_MAX_EXACT = 2.0**53
SCORE_COLUMNS = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_rating", "rejected_rating"),
)


@dataclass(frozen=True)
class CheckOptions:
    """How rows are read and checked.

    Args:
        max_chars: the longest row in characters; None checks no length.
        check_cells: whether to check the cells of a CSV table.
    """

    mapping: ColumnMapping
    max_chars: int | None = None
    check_cells: bool = False


class RowChecker:
    """Checks rows one by one and fills `counters`."""

    def __init__(self, options: CheckOptions) -> None:
        self.options = options
        self.mapping = options.mapping
        self.counters = Counters()
        self._columns = list(options.mapping.fields.values())
        self._is_number_column: dict[str, bool] = {}
        self._first_prompt_line: dict[bool, int] = {}

    def check(self, line: int, data: dict[str, Any], raw: bytes | None = None) -> Canonical | None:
        """Check one row, given also as its line of JSON if there is one.

        Returns:
            The row as training reads it; None if it cannot be used.
        """
        counters = self.counters
        if data.keys() != counters.columns.keys():
            counters.add_columns(data)
            if len(data) > MANY_COLUMNS:
                counters.record("many-columns", line)
        if repeats_header(data):
            counters.record("repeated-header", line)
        if raw is not None:
            self._check_json_line(line, data, raw)
        elif self.options.check_cells:
            self._check_cells(line, data)
        try:
            row = to_canonical(data, self.mapping)
        except UnusableRowError as error:
            counters.skipped += 1
            code, column = locate_error(data, self.mapping, error)
            counters.record(code, line, column)
            return None
        counters.rows += 1
        self._measure(line, row)
        self._check_by_kind(line, row, data)
        return row

    def _measure(self, line: int, row: Canonical) -> None:
        counters = self.counters
        text = fingerprint(row)
        encoded = text.encode(errors="surrogatepass")
        size = len(text)
        counters.chars += size
        counters.length_histogram[min(31, size.bit_length())] += 1
        # Each side of a pair is a sequence of its own: prompt and chosen, prompt and rejected.
        shorter = min(map(len, text.split("\x02")[-3:-1])) if "rejected" in row else 0
        counters.longest = max(counters.longest, size - shorter)
        if len(counters.fingerprints) < MAX_FINGERPRINTS:
            counters.fingerprints.append(_hash(encoded))
            counters.fingerprint_lines.append(line)
            counters.prompts.append(_prompt_hash(row, encoded))
        max_chars = self.options.max_chars
        if max_chars is not None and size > max_chars:
            counters.record("too-long", line)
        for code in dict.fromkeys(check_text(text, encoded)):
            if code == "special-tokens" and "segments" in row:
                continue  # they are written without a template
            is_plain = code == "special-tokens" and "text" in row
            counters.record("template-in-text" if is_plain else code, line)

    def _check_json_line(self, line: int, data: dict[str, Any], raw: bytes) -> None:
        if raw.count(b'":') != len(data):
            key = duplicate_key(raw, data)
            if key is not None:
                self.counters.record("duplicate-key", line, key)
        if raw.count(b"[") + raw.count(b"{") > MAX_NESTING:
            for column, value in data.items():
                if type(value) is not str and exceeds_depth(value, MAX_NESTING):
                    self.counters.record("deep-nesting", line, column)
        if b"\\u000" in raw:
            texts = (value for value in data.values() if type(value) is str)
            controls = {control for text in texts for control in CONTROL.findall(text)}
            # Others than the separators of a fingerprint are found in the fingerprint.
            if controls and max(controls) <= LAST_SEPARATOR:
                self.counters.record("control-characters", line)

    def _check_cells(self, line: int, data: dict[str, Any]) -> None:
        record = self.counters.record
        for column, cell in data.items():
            if not cell or type(cell) is not str:  # a history of joined rows
                continue
            if cell[0] in "=@" or (cell[0] in "+-" and cell[1:2].isalpha()):
                record("formula-cells", line, column)
            if "\n" in cell:
                record("line-breaks-in-cells", line, column)
            number = is_number(cell)
            if self._is_number_column.setdefault(column, number) != number:
                record("mixed-types", line, column)

    def _check_by_kind(self, line: int, row: Canonical, data: dict[str, Any]) -> None:
        extra = [
            message
            for part in _MESSAGE_PARTS
            if part in row
            for message in row[part]
            if len(message) > 2
        ]
        if extra:
            self._check_keys(line, extra)
        if "messages" in row:
            self._check_messages(line, row["messages"])
        elif "chosen" in row:
            self._check_preference(line, row, data)
        elif "text" in row:
            self._check_completion(line, row["text"])
        elif "completion" in row:
            self._check_completion(line, _contents(row["completion"]))
        elif "answers" in row:
            for answer in row["answers"]:
                self._check_completion(line, answer["text"])
        for column in self._columns:
            value = data.get(column)
            if type(value) is int or type(value) is float:
                is_exact = type(value) is int or abs(value) < _MAX_EXACT
                self.counters.record(
                    "numbers-as-text" if is_exact else "inexact-number", line, column
                )

    def _check_messages(self, line: int, messages: list[dict[str, Any]]) -> None:
        counters, max_chars = self.counters, self.options.max_chars
        counters.messages += len(messages)
        is_pair = len(messages) == 2 and messages[0]["role"] == "user"
        if not is_pair or "tool_calls" in messages[1]:
            for code, index in check_role_order(messages):
                counters.record(code, line, f"message {index + 1}")
        prompt = None
        chars_before = 0
        for index, message in enumerate(messages):
            content = message.get("content") or ""
            if message["role"] == "assistant":
                if content or not message.get("tool_calls"):
                    self._check_completion(line, content)
                    if prompt is not None and content.strip() == prompt.strip():
                        column = self.mapping.fields.get("answer")
                        place = column if len(messages) < 4 else f"message {index + 1}"
                        counters.record("answer-is-question", line, place)
                is_last = index == len(messages) - 1
                if max_chars is not None and is_last and chars_before > max_chars:
                    counters.record("answer-truncated", line)
            elif not content.strip() and index:
                counters.record("empty-message", line, f"message {index + 1}")
            prompt = content if message["role"] == "user" else None
            chars_before += len(content)

    def _check_keys(self, line: int, extra: Sequence[dict[str, Any]]) -> None:
        """Check what messages have beside role and content."""
        if any("reasoning_content" in message for message in extra):
            self.counters.record("reasoning", line)
        weights = {message["weight"] for message in extra if "weight" in message}
        if 0 in weights:
            self.counters.record("untrained-answers", line)
        if weights - {0}:
            self.counters.record("fractional-weight", line)

    def _check_completion(self, line: int, completion: str) -> None:
        counters = self.counters
        is_plain = self.mapping.kind in ("text", "segments")
        for code in () if is_plain else check_answer(completion):
            counters.record(code, line, self.mapping.fields.get("answer"))
        counters.answers += 1
        counters.answer_chars += len(completion)
        if is_near_empty(completion):
            counters.record("near-empty-answer", line, self.mapping.fields.get("answer"))
        examine_all = counters.answers < _MAX_SCRIPTS
        if examine_all or counters.answers % _SCRIPT_INTERVAL == 0:
            script = detect_script(completion)
            weight = 1 if examine_all else _SCRIPT_INTERVAL
            counters.scripts[script] += weight

    def _check_preference(self, line: int, row: Canonical, data: dict[str, Any]) -> None:
        record, fields = self.counters.record, self.mapping.fields
        chosen = _contents(row["chosen"])
        self._check_completion(line, chosen)
        messages = row.get("prompt") or []
        if messages and messages[-1]["role"] == "assistant":
            record("consecutive-assistant-messages", line, fields.get("prompt"))
        prompt = _contents(messages)[-_MAX_PROMPT_CHARS:].strip()
        value = data.get(fields.get("chosen", ""))
        if len(prompt) > 3 and isinstance(value, str) and chosen.lstrip().startswith(prompt):
            record("prompt-inside-chosen", line, fields.get("chosen"))
        has_prompt = bool(data.get(fields.get("prompt", "")))
        is_first = self._first_prompt_line.setdefault(has_prompt, line) == line
        if is_first and len(self._first_prompt_line) == 2:
            record("mixed-prompts", line, fields.get("prompt", "prompt"))
        for code, column in _check_scores(data, self.mapping):
            record(code, line, column)


def repeats_header(data: dict[str, Any]) -> bool:
    """Return whether every value is the name of its column, as in the header of a joined file."""
    for name, value in data.items():
        if type(value) is not str or len(value) > len(name) + 2:
            return False
        if value.strip("\ufeff ") != name.strip():
            return False
    return bool(data)


def is_number(cell: str) -> bool:
    """Return whether a table cell holds nothing but a number."""
    if cell[0] not in "0123456789-+.,":
        return False
    return cell.strip("+- ").replace(".", "", 1).replace(",", "").isdigit()


def _contents(messages: list[dict[str, Any]] | str) -> str:
    if isinstance(messages, str):
        return messages
    return "\n".join(str(message.get("content") or "") for message in messages)


def score_columns(mapping: ColumnMapping) -> list[tuple[str, str]]:
    """Return the usual columns of scores without those that are set as unused."""
    unused = mapping.unused_as_set
    return [pair for pair in SCORE_COLUMNS if not any(column in unused for column in pair)]


def _check_scores(data: dict[str, Any], mapping: ColumnMapping) -> Iterator[tuple[str, str]]:
    for chosen_column, rejected_column in score_columns(mapping):
        if chosen_column not in data or rejected_column not in data:
            continue
        chosen, rejected = data[chosen_column], data[rejected_column]
        try:
            if isinstance(chosen, str) or isinstance(rejected, str):
                column = chosen_column if isinstance(chosen, str) else rejected_column
                yield "score-not-number", column
            if float(chosen) < float(rejected):
                yield "scores-reversed", chosen_column
        except (TypeError, ValueError):
            yield "score-not-number", chosen_column


CALLS = "assistant+calls"


def check_role_order(messages: list[dict[str, Any]]) -> tuple[tuple[str, int], ...]:
    """Return the codes of the findings, each with the index of the first message it is about."""
    roles = (
        CALLS if message.get("tool_calls") else str(message.get("role")) for message in messages
    )
    return _check_roles(tuple(roles))


@lru_cache(maxsize=4096)
def _check_roles(roles: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    findings: dict[str, int] = {}
    previous = ""
    for index, role in enumerate(roles):
        code = _check_role(previous, role, roles[:index])
        if code:
            findings.setdefault(code, index)
        if previous == CALLS and role != "tool":
            findings.setdefault("tool-call-without-result", index - 1)
        previous = role
    if previous == CALLS:
        findings.setdefault("tool-call-without-result", len(roles) - 1)
    elif previous in ("user", "system") and "assistant" in roles:
        findings.setdefault("ends-without-answer", len(roles) - 1)
    return tuple(findings.items())


def _check_role(previous: str, role: str, earlier: tuple[str, ...]) -> str:
    if role == "system" and earlier:
        return "several-system-messages" if "system" in earlier else "system-message-not-first"
    if role in ("assistant", CALLS):
        if all(other in ("system", "assistant") for other in earlier):
            return "assistant-message-first"
        return "consecutive-assistant-messages" if previous == role == "assistant" else ""
    if role == "user" and previous == "user":
        return "consecutive-user-messages"
    if role == "tool" and previous not in (CALLS, "tool"):
        return "tool-result-without-call"
    return ""


def _hash(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def _prompt_hash(row: Canonical, text: bytes) -> int:
    """Return the hash of the messages before the last answer; 0 if the row is not like this."""
    if "messages" not in row:
        return 0
    prompt, _, answer = text.rpartition(b"\x00")
    return _hash(prompt) if prompt and answer.startswith(b"assistant\x01") else 0
