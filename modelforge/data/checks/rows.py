"""One row after the other: can it be learned from, and what is odd about it?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from modelforge.data.canonical.convert import Canonical, UnusableRowError, canonical, fingerprint
from modelforge.data.checks.counters import MOST_PRINTS, Tally
from modelforge.data.checks.locate import blame, depth_beyond, doubled_key, is_row_of
from modelforge.data.checks.messages import order_of
from modelforge.data.checks.text import CONTROL, PARTING, is_near_empty, odd_signs, script_of
from modelforge.data.columns.detect import Mapping

DEEP = 64
WIDE = 1_000
# Scripts are a share, so that some of very many answers are enough.
_ALL_SCRIPTS = 20_000


@dataclass(frozen=True)
class Terms:
    """How the rows are read and measured; `longest` is in characters, for the whole row."""

    mapping: Mapping
    longest: int | None = None
    cells: bool = False


class Inspector:
    """Fills a tally, row by row."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.mapping = terms.mapping
        self.tally = Tally()
        self.wanted = list(terms.mapping.fields.values())
        self.cells: dict[str, bool] = {}
        self.prompted: dict[bool, int] = {}

    def take(self, line: int, data: dict[str, Any], raw: bytes | None = None) -> Canonical | None:
        """Count one row and return it as training reads it, or nothing when it cannot."""
        tally = self.tally
        if data.keys() != tally.columns.keys():
            tally.add_columns(data)
            if len(data) > WIDE:
                tally.note("many-columns", line)
        if raw is not None:
            self._look_at_raw(line, data, raw)
        elif self.terms.cells:
            self._look_at_cells(line, data)
        try:
            row = canonical(data, self.mapping)
        except UnusableRowError as error:
            tally.skipped += 1
            if not is_row_of(data, self.wanted):
                tally.note("mixed-schemas", line)
            else:
                tally.note(*blame(data, self.mapping, error, line))
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
        if len(tally.prints) < MOST_PRINTS:
            digest = hashlib.blake2b(encoded, digest_size=8).digest()
            tally.prints.append(int.from_bytes(digest))
            tally.print_lines.append(line)
        longest = self.terms.longest
        if longest is not None and size > longest:
            tally.note("too-long", line)
        for code in odd_signs(text, encoded):
            tally.note(code, line)

    def _look_at_raw(self, line: int, data: dict[str, Any], raw: bytes) -> None:
        if raw.count(b'":') != len(data) and (key := doubled_key(raw, data)):
            self.tally.note("doubled-key", line, key)
        for column, value in data.items():
            if type(value) is not str and depth_beyond(value, DEEP):
                self.tally.note("deep-nesting", line, column)
        if b"\\u000" in raw:
            texts = (value for value in data.values() if type(value) is str)
            marks = {mark for text in texts for mark in CONTROL.findall(text)}
            if marks and max(marks) <= PARTING:  # others are found in the print
                self.tally.note("control-characters", line)

    def _look_at_cells(self, line: int, data: dict[str, Any]) -> None:
        note = self.tally.note
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
                self.tally.note("numbers-as-text", line, column)

    def _look_at_turns(self, line: int, turns: list[dict[str, Any]]) -> None:
        tally = self.tally
        tally.turns += len(turns)
        if len(turns) != 2 or turns[0]["role"] != "user" or "tool_calls" in turns[1]:
            for code, number in order_of(turns):
                tally.note(code, line, f"message {number + 1}")
        asked = None
        before_answer = 0
        for number, turn in enumerate(turns):
            content = turn.get("content") or ""
            if turn["role"] == "assistant":
                if content or not turn.get("tool_calls"):
                    self._answer(line, content)
                    if asked is not None and content.strip() == asked.strip():
                        tally.note("answer-is-question", line, self._place(turns, number))
                longest = self.terms.longest
                if longest is not None and number == len(turns) - 1 and before_answer > longest:
                    tally.note("answer-beyond-length", line)
            elif not content.strip() and number:
                tally.note("empty-turn", line, f"message {number + 1}")
            asked = content if turn["role"] == "user" else None
            before_answer += len(content)

    def _place(self, turns: list[dict[str, Any]], number: int) -> str | None:
        return self.mapping.fields.get("answer") if len(turns) < 4 else f"message {number + 1}"

    def _answer(self, line: int, answer: str) -> None:
        tally = self.tally
        tally.answers += 1
        tally.answer_chars += len(answer)
        if len(answer) < 13 and is_near_empty(answer):
            tally.note("near-empty-answer", line, self.mapping.fields.get("answer"))
        if tally.answers < _ALL_SCRIPTS or not tally.answers % 16:
            weight = 1 if tally.answers < _ALL_SCRIPTS else 16
            script = script_of(answer)
            tally.scripts[script] = tally.scripts.get(script, 0) + weight

    def _look_at_preference(self, line: int, row: Canonical, data: dict[str, Any]) -> None:
        note, fields = self.tally.note, self.mapping.fields
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
                self.tally.note("answer-not-in-context", line, self.mapping.fields.get("answers"))


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
    for mine, other in SCORES:
        if mine in data and other in data:
            good, bad = data[mine], data[other]
            try:
                if isinstance(good, str) or isinstance(bad, str):
                    yield "score-is-text", mine if isinstance(good, str) else other
                if float(good) < float(bad):
                    yield "scores-reversed", mine
            except (TypeError, ValueError):
                yield "score-is-text", mine


SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_rating", "rejected_rating"),
)
