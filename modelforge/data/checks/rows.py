"""One row after the other: can it be learned from, and what is odd about it?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from modelforge.data.canonical.convert import Canonical, UnusableRowError, fingerprint, to_canonical
from modelforge.data.checks.counters import MAX_FINGERPRINTS, Counters
from modelforge.data.checks.locate import duplicate_key, exceeds_depth, has_any_column, locate_error
from modelforge.data.checks.messages import check_role_order
from modelforge.data.checks.text import CONTROL, PARTING, check_text, detect_script, is_near_empty
from modelforge.data.columns.detect import ColumnMapping

DEEP = 64
WIDE = 1_000
# Scripts are a share, so that some of very many answers are enough.
_ALL_SCRIPTS = 20_000


@dataclass(frozen=True)
class CheckOptions:
    """How the rows are read and measured; `longest` is in characters, for the whole row."""

    mapping: ColumnMapping
    max_chars: int | None = None
    check_cells: bool = False


class RowChecker:
    """Fills a tally, row by row."""

    def __init__(self, terms: CheckOptions) -> None:
        self.terms = terms
        self.mapping = terms.mapping
        self.tally = Counters()
        self.wanted = list(terms.mapping.fields.values())
        self.cells: dict[str, bool] = {}
        self.prompted: dict[bool, int] = {}

    def check(self, line: int, data: dict[str, Any], raw: bytes | None = None) -> Canonical | None:
        """Count one row and return it as training reads it, or nothing when it cannot."""
        tally = self.tally
        if data.keys() != tally.columns.keys():
            tally.add_columns(data)
            if len(data) > WIDE:
                tally.record("many-columns", line)
        if raw is not None:
            self._look_at_raw(line, data, raw)
        elif self.terms.check_cells:
            self._look_at_cells(line, data)
        try:
            row = to_canonical(data, self.mapping)
        except UnusableRowError as error:
            tally.skipped += 1
            if not has_any_column(data, self.wanted):
                tally.record("mixed-schemas", line)
            else:
                tally.record(*locate_error(data, self.mapping, error, line))
            return None
        tally.rows += 1
        self._measure(line, row)
        self._look_at_kind(line, row, data)
        return row

    def _measure(self, line: int, row: Canonical) -> None:
        tally = self.tally
        text = fingerprint(row)
        encoded = text.encode(errors="surrogatepass")
        size = len(text)
        tally.chars += size
        tally.sizes[min(31, size.bit_length())] += 1
        tally.longest = max(tally.longest, size)
        if len(tally.fingerprints) < MAX_FINGERPRINTS:
            digest = hashlib.blake2b(encoded, digest_size=8).digest()
            tally.fingerprints.append(int.from_bytes(digest))
            tally.fingerprint_lines.append(line)
        longest = self.terms.max_chars
        if longest is not None and size > longest:
            tally.record("too-long", line)
        for code in check_text(text, encoded):
            tally.record(code, line)

    def _look_at_raw(self, line: int, data: dict[str, Any], raw: bytes) -> None:
        if raw.count(b'":') != len(data) and (key := duplicate_key(raw, data)):
            self.tally.record("doubled-key", line, key)
        for column, value in data.items():
            if type(value) is not str and exceeds_depth(value, DEEP):
                self.tally.record("deep-nesting", line, column)
        if b"\\u000" in raw:
            texts = (value for value in data.values() if type(value) is str)
            marks = {mark for text in texts for mark in CONTROL.findall(text)}
            if marks and max(marks) <= PARTING:  # others are found in the print
                self.tally.record("control-characters", line)

    def _look_at_cells(self, line: int, data: dict[str, Any]) -> None:
        note = self.tally.record
        for column, cell in data.items():
            if not cell:
                continue
            if cell[0] in "=@" or (cell[0] in "+-" and cell[1:2].isalpha()):
                note("formula-cells", line, column)
            if "\n" in cell:
                note("line-breaks-in-cells", line, column)
            number = is_number(cell)
            if self.cells.setdefault(column, number) != number:
                note("mixed-types", line, column)

    def _look_at_kind(self, line: int, row: Canonical, data: dict[str, Any]) -> None:
        if "messages" in row:
            self._look_at_turns(line, row["messages"])
        elif "chosen" in row:
            self._look_at_preference(line, row, data)
        elif "text" in row:
            self._answer(line, row["text"])
        elif "completion" in row:
            self._answer(line, _said(row["completion"]))
        elif "answers" in row:
            self._look_at_span(line, row)
        for column in self.wanted:
            value = data.get(column)
            if type(value) is int or type(value) is float:
                self.tally.record("numbers-as-text", line, column)

    def _look_at_turns(self, line: int, turns: list[dict[str, Any]]) -> None:
        tally = self.tally
        tally.messages += len(turns)
        if len(turns) != 2 or turns[0]["role"] != "user" or "tool_calls" in turns[1]:
            for code, number in check_role_order(turns):
                tally.record(code, line, f"message {number + 1}")
        asked = None
        before_answer = 0
        for number, turn in enumerate(turns):
            content = turn.get("content") or ""
            if turn["role"] == "assistant":
                if content or not turn.get("tool_calls"):
                    self._answer(line, content)
                    if asked is not None and content.strip() == asked.strip():
                        tally.record("answer-is-question", line, self._place(turns, number))
                longest = self.terms.max_chars
                if longest is not None and number == len(turns) - 1 and before_answer > longest:
                    tally.record("answer-beyond-length", line)
            elif not content.strip() and number:
                tally.record("empty-turn", line, f"message {number + 1}")
            asked = content if turn["role"] == "user" else None
            before_answer += len(content)

    def _place(self, turns: list[dict[str, Any]], number: int) -> str | None:
        return self.mapping.fields.get("answer") if len(turns) < 4 else f"message {number + 1}"

    def _answer(self, line: int, answer: str) -> None:
        tally = self.tally
        tally.answers += 1
        tally.answer_chars += len(answer)
        if len(answer) < 13 and is_near_empty(answer):
            tally.record("near-empty-answer", line, self.mapping.fields.get("answer"))
        if tally.answers < _ALL_SCRIPTS or not tally.answers % 16:
            weight = 1 if tally.answers < _ALL_SCRIPTS else 16
            script = detect_script(answer)
            tally.scripts[script] = tally.scripts.get(script, 0) + weight

    def _look_at_preference(self, line: int, row: Canonical, data: dict[str, Any]) -> None:
        note, fields = self.tally.record, self.mapping.fields
        chosen = _said(row["chosen"])
        self._answer(line, chosen)
        asked = _said(row.get("prompt") or [])[-2_000:].strip()
        value = data.get(fields.get("chosen", ""))
        if len(asked) > 3 and isinstance(value, str) and chosen.lstrip().startswith(asked):
            note("prompt-inside-chosen", line, fields.get("chosen"))
        explicit = bool(data.get(fields.get("prompt", "")))
        if self.prompted.setdefault(explicit, line) == line and len(self.prompted) == 2:
            note("mixed-prompts", line, fields.get("prompt", "prompt"))
        for code, column in _scores(data):
            note(code, line, column)

    def _look_at_span(self, line: int, row: Canonical) -> None:
        context = row["context"]
        for answer in row["answers"]:
            self._answer(line, answer["text"])
            start = answer.get("start")
            text = answer["text"]
            if (start is None and text not in context) or (
                start is not None and context[start : start + len(text)] != text
            ):
                self.tally.record("answer-not-in-context", line, self.mapping.fields.get("answers"))


def is_number(cell: str) -> bool:
    """Whether a cell of a table holds nothing but a number."""
    if cell[0] not in "0123456789-+.,":
        return False
    return cell.strip("+- ").replace(".", "", 1).replace(",", "").isdigit()


def _said(turns: list[dict[str, Any]] | str) -> str:
    if isinstance(turns, str):
        return turns
    return "\n".join(str(turn.get("content") or "") for turn in turns)


def _scores(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for mine, other in SCORE_COLUMNS:
        if mine in data and other in data:
            good, bad = data[mine], data[other]
            try:
                if isinstance(good, str) or isinstance(bad, str):
                    yield "score-is-text", mine if isinstance(good, str) else other
                if float(good) < float(bad):
                    yield "scores-reversed", mine
            except (TypeError, ValueError):
                yield "score-is-text", mine


SCORE_COLUMNS = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_rating", "rejected_rating"),
)
