"""One row mended, ailment by ailment; a row that cannot be mended is left out."""

from __future__ import annotations

from typing import Any

import orjson

from modelforge.data.canonical.convert import UnusableRowError, to_canonical
from modelforge.data.checks.rows import SCORE_COLUMNS, CheckOptions, RowChecker
from modelforge.data.checks.rules import DROP, RULES
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.repair.messages import ORDERERS, with_contents
from modelforge.data.repair.text import CLEANERS, cleaned

Data = dict[str, Any]
_DROPPED = frozenset(code for code, ailment in RULES.items() if ailment.repair == DROP)


class RowRepairer:
    """Mends rows of one file and counts what it changed, by the code of the ailment."""

    def __init__(self, mapping: ColumnMapping, codes: frozenset[str]) -> None:
        self.mapping = mapping
        self.codes = codes
        self.changes: dict[str, int] = {}
        self.inspector = RowChecker(CheckOptions(mapping))
        self.seen: set[int] = set()

    def repair(self, line: int, data: Data, raw: bytes | None = None) -> Data | None:
        """Return the row as the copy shall have it, or nothing when it is left out."""
        found = self._ailments(line, data, raw)
        if found & self.codes & {"null-content", "image-content", "nested-column"}:
            data = self._readable(data, found)
            found = self._ailments(line, data, None)
        for code in sorted(found & self.codes):
            kept = self._without(code, data)
            if kept is None:
                self._count(code)
                return None
            if kept is not data:
                self._count(code)
                data = kept
        return self._last_look(data)

    def _ailments(self, line: int, data: Data, raw: bytes | None) -> set[str]:
        tally = self.inspector.tally
        tally.counts.clear()
        tally.places.clear()
        del tally.fingerprints[:], tally.fingerprint_lines[:]
        if self.inspector.check(line, data, raw) is not None and tally.fingerprints:
            key = tally.fingerprints[0]
            if key in self.seen:
                tally.record("duplicate-rows", line)
            self.seen.add(key)
        return set(tally.counts)

    def _readable(self, data: Data, found: set[str]) -> Data:
        key = self.mapping.properties.get("content", "content")
        data = dict(data)
        for column in self.mapping.fields.values():
            value = data.get(column)
            if isinstance(value, list):
                data[column] = with_contents(value, key)
            elif isinstance(value, dict):
                data[column] = orjson.dumps(value, default=str).decode()
        for code in found & {"null-content", "image-content", "nested-column"}:
            self._count(code)
        return data

    def _without(self, code: str, data: Data) -> Data | None:
        """Return the row without this ailment; the same row where nothing can be done."""
        if code in _DROPPED or code == "duplicate-rows":
            return None
        if code in CLEANERS:
            clean = CLEANERS[code]
            columns = set(self.mapping.fields.values())
            return {
                name: cleaned(value, clean) if name in columns else value
                for name, value in data.items()
            }
        if code in ORDERERS and self.mapping.kind == "messages":
            turns = ORDERERS[code](to_canonical(data, self.mapping)["messages"])
            if not any(turn["role"] == "assistant" for turn in turns):
                return None
            return data | {self.mapping.fields["messages"]: self._spelled(turns)}
        if code == "many-columns":
            return {name: data[name] for name in self.mapping.fields.values() if name in data}
        if code == "prompt-inside-chosen":
            return self._without_prompt(data)
        if code == "scores-reversed":
            return self._swapped(data)
        return dict(data) if code == "doubled-key" else data

    def _spelled(self, turns: list[Data]) -> list[Data]:
        """Return turns with the names of fields that this file uses."""
        names = self.mapping.properties
        return [{names.get(key, key): value for key, value in turn.items()} for turn in turns]

    def _without_prompt(self, data: Data) -> Data:
        fields = self.mapping.fields
        asked = str(data.get(fields.get("prompt", ""), "")).strip()
        data = dict(data)
        for part in ("chosen", "rejected"):
            text = data.get(fields[part])
            if asked and isinstance(text, str) and text.lstrip().startswith(asked):
                data[fields[part]] = text.lstrip()[len(asked) :].lstrip()
        return data

    def _swapped(self, data: Data) -> Data:
        chosen, rejected = self.mapping.fields["chosen"], self.mapping.fields["rejected"]
        data = data | {chosen: data[rejected], rejected: data[chosen]}
        for good, bad in SCORE_COLUMNS:
            if good in data and bad in data:
                data |= {good: data[bad], bad: data[good]}
        return data

    def _last_look(self, data: Data) -> Data | None:
        """Leave out what became unusable by mending, when unusable rows are left out."""
        try:
            to_canonical(data, self.mapping)
        except UnusableRowError as error:
            if error.code in self.codes or error.code not in RULES:
                self._count(error.code)
                return None
        return data

    def _count(self, code: str) -> None:
        self.changes[code] = self.changes.get(code, 0) + 1
