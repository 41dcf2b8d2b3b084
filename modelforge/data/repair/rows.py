"""Repair rows finding by finding; a row that cannot be repaired is removed."""

from __future__ import annotations

from typing import Any

import orjson

from modelforge.data.canonical.convert import UnusableRowError, to_canonical
from modelforge.data.checks.rows import SCORE_COLUMNS, CheckOptions, RowChecker
from modelforge.data.checks.rules import DROP, RULES
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.repair.messages import MESSAGE_REPAIRS, keep_text_contents
from modelforge.data.repair.text import TEXT_REPAIRS, repair_texts

Data = dict[str, Any]
_DROPPED = frozenset(code for code, rule in RULES.items() if rule.repair == DROP)
# Repaired before all others, because the row cannot be converted until then.
_CONTENT_CODES = frozenset({"null-content", "image-content", "nested-column"})


class RowRepairer:
    """Repairs the rows of one file and counts the changes by code."""

    def __init__(self, mapping: ColumnMapping, codes: frozenset[str]) -> None:
        self.mapping = mapping
        self.codes = codes
        self.changes: dict[str, int] = {}
        self._checker = RowChecker(CheckOptions(mapping))
        self._seen: set[int] = set()

    def repair(self, line: int, data: Data, raw: bytes | None = None) -> Data | None:
        """Return the repaired row; None if it is removed."""
        found = self._check(line, data, raw)
        if found & self.codes & _CONTENT_CODES:
            data = self._with_text_contents(data, found)
            found = self._check(line, data, None)
        for code in sorted(found & self.codes):
            repaired = self._repair_code(code, data)
            if repaired is not data:
                self._count(code)
            if repaired is None:
                return None
            data = repaired
        return None if self._is_unusable(data) else data

    def _check(self, line: int, data: Data, raw: bytes | None) -> set[str]:
        """Return the codes of the findings in one row."""
        counters = self._checker.counters
        counters.counts.clear()
        counters.places.clear()
        del counters.fingerprints[:], counters.fingerprint_lines[:]
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
                data[column] = keep_text_contents(value, key)
            elif isinstance(value, dict):
                data[column] = orjson.dumps(value, default=str).decode()
        for code in found & _CONTENT_CODES:
            self._count(code)
        return data

    def _repair_code(self, code: str, data: Data) -> Data | None:
        """Return the row without this finding; the same object if nothing can be done."""
        if code in _DROPPED or code == "duplicate-rows":
            return None
        if code in TEXT_REPAIRS:
            return self._with_repaired_texts(code, data)
        if code in MESSAGE_REPAIRS and self.mapping.kind == "messages":
            messages = MESSAGE_REPAIRS[code](to_canonical(data, self.mapping)["messages"])
            if not any(message["role"] == "assistant" for message in messages):
                return None
            return data | {self.mapping.fields["messages"]: self._with_own_keys(messages)}
        if code == "many-columns":
            return {name: data[name] for name in self.mapping.fields.values() if name in data}
        if code == "prompt-inside-chosen":
            return self._without_prompt(data)
        if code == "scores-reversed":
            return self._swap_completions(data)
        # A parsed row has no duplicate keys any more; the copy counts as a change.
        return dict(data) if code == "duplicate-key" else data

    def _with_repaired_texts(self, code: str, data: Data) -> Data:
        columns = set(self.mapping.fields.values())
        return {
            name: repair_texts(value, TEXT_REPAIRS[code]) if name in columns else value
            for name, value in data.items()
        }

    def _with_own_keys(self, messages: list[Data]) -> list[Data]:
        """Return messages with the keys that this file uses."""
        keys = self.mapping.properties
        return [{keys.get(key, key): value for key, value in each.items()} for each in messages]

    def _without_prompt(self, data: Data) -> Data:
        fields = self.mapping.fields
        prompt = str(data.get(fields.get("prompt", ""), "")).strip()
        data = dict(data)
        for part in ("chosen", "rejected"):
            text = data.get(fields[part])
            if prompt and isinstance(text, str) and text.lstrip().startswith(prompt):
                data[fields[part]] = text.lstrip()[len(prompt) :].lstrip()
        return data

    def _swap_completions(self, data: Data) -> Data:
        pairs = [(self.mapping.fields["chosen"], self.mapping.fields["rejected"]), *SCORE_COLUMNS]
        data = dict(data)
        for chosen, rejected in pairs:
            if chosen in data and rejected in data:
                data[chosen], data[rejected] = data[rejected], data[chosen]
        return data

    def _is_unusable(self, data: Data) -> bool:
        """Return whether a repaired row is unusable and such rows are removed."""
        try:
            to_canonical(data, self.mapping)
        except UnusableRowError as error:
            if error.code in self.codes or error.code not in RULES:
                self._count(error.code)
                return True
        return False

    def _count(self, code: str) -> None:
        self.changes[code] = self.changes.get(code, 0) + 1
