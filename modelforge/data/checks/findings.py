"""Findings of the data checks: grouped by code, with a count and the first places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from modelforge.config.schema.base import about
from modelforge.data.chats.message import ChatCounts
from modelforge.data.checks.counters import MAX_PLACES, Counters, Place
from modelforge.data.checks.rules import RULES
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.formats.errors import ReadError, read_error
from modelforge.data.formats.message_tree import Tree
from modelforge.data.formats.read import tree_kind
from modelforge.data.formats.sniff import DataFile
from modelforge.errors import Level

MIN_ROWS = 10
REPAIR_LINES = "Repair these lines where the meaning is clear, and remove the others."
# After these errors the file, or the rest of it, cannot be read at all.
_UNREPAIRABLE = frozenset(
    {"empty-file", "blank-file", "file-not-found", "file-not-readable", "unsupported-format"}
    | {"encrypted", "bad-signature", "truncated-table", "damaged-table", "damaged-compression"}
    | {"compressed-table", "bad-encoding", "object-without-rows", "tree-too-large"}
    | {"no-ranked-replies"}
    | {"chat-person", "chat-one-person", "chat-no-answer", "chat-empty", "chat-date"}
    | {"unsafe-archive", "archive-without-one-file", "expands-too-much", "sheet-missing"}
)


@dataclass(frozen=True)
class DataFinding:
    """A data finding, reported once with the number of rows."""

    code: Annotated[str, about("A stable code that names the cause.")]
    level: Level
    what: str
    remedy: str
    file: str
    count: Annotated[int, about("The number of rows or places.")] = 1
    places: Annotated[
        list[Place], about("The first lines, with the column number or name where known.")
    ] = field(default_factory=list)
    repair: Annotated[
        str | None, about("What the repair would do; null if it cannot be repaired.")
    ] = None
    fixes: Annotated[
        int | None, about("The rows that the repair fixes; null if it was not tried.")
    ] = None
    removes: Annotated[
        int | None, about("The rows that the repair removes; null if it was not tried.")
    ] = None
    tried: Annotated[
        int | None,
        about("Of a large file: the number of rows on which the repair was tried; null for all."),
    ] = None


class ReadErrors:
    """Collects read errors by code; keeps the first few of each and counts the others."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.kept: list[ReadError] = []

    def add(self, error: ReadError) -> None:
        """Count an error, and keep it if it is among the first of its code."""
        if self.counts[error.code] < MAX_PLACES:
            self.kept.append(error)
        self.counts[error.code] += 1

    def merge(self, later: ReadErrors, lines: int, file: str) -> None:
        """Add the errors of the part of a file that follows `lines` lines."""
        for error in later.kept:
            (problem,) = error.problems
            line = None if error.line is None else error.line + lines
            what, remedy, code = problem.what, problem.remedy, error.code
            moved = read_error(file, what, remedy, code=code, line=line, column=error.column)
            self.add(moved)
        self.counts += later.counts - Counter(error.code for error in later.kept)

    def findings(self, file: str) -> list[DataFinding]:
        """Return one blocker per code."""
        findings = []
        for code, count in self.counts.items():
            errors = [error for error in self.kept if error.code == code]
            problem = errors[0].problems[0]
            places: list[Place] = [(error.line, error.column) for error in errors if error.line]
            where = _format_error_places(places, count) if places else "It"
            what = f"{where} {problem.what}"
            repair = None if code in _UNREPAIRABLE else REPAIR_LINES
            findings.append(
                DataFinding(code, "blocker", what, problem.remedy, file, count, places, repair)
            )
        return findings


def row_findings(counters: Counters, file: str, unit: str) -> list[DataFinding]:
    """Return a finding for each rule that was counted; `unit` is “line” or “row”."""
    return [
        row_finding(code, count, counters.places.get(code, []), file, unit)
        for code in RULES
        if (count := counters.counts.get(code, 0))
    ]


def row_finding(
    code: str, count: int, places: list[Place], file: str, unit: str = "line"
) -> DataFinding:
    """Return the finding for `count` rows; `places` are those of the first."""
    rule = RULES[code]
    what = f"{rule.sentence(count)}: {format_places(places, count, unit)}."
    return DataFinding(code, rule.level, what, rule.remedy, file, count, places, rule.repair)


def few_rows_finding(rows: int, file: str) -> DataFinding | None:
    """Return the finding for a dataset with fewer than MIN_ROWS usable rows."""
    if rows >= MIN_ROWS:
        return None
    noun = "row" if rows == 1 else "rows"
    what = f"There {'is' if rows == 1 else 'are'} only {rows} usable {noun}."
    remedy = f"Use at least {MIN_ROWS} rows; about 50 are enough to learn a style."
    return DataFinding("few-rows", "caution", what, remedy, file, rows)


_TREES: dict[Tree, str] = {
    "messages": "one message per row with its parent's id, the shape of OpenAssistant's messages",
    "trees": "a tree of messages in each row, the shape of OpenAssistant's trees",
    "rounds": "one round per row with its parent's id, the shape of H2O's rows",
}


def message_tree_findings(
    files: Sequence[DataFile], mapping: ColumnMapping, rows: int, name: str
) -> list[DataFinding]:
    """Return a note that the messages of the files are joined to this many rows."""
    trees = {tree for file in files if (tree := tree_kind(file))}
    if "history" not in mapping.fields:  # no round names another one
        trees.discard("rounds")
    if not trees:
        return []
    noun = "preference pair" if mapping.kind == "preference" else "conversation"
    what = (
        f"It has {' and '.join(_TREES[tree] for tree in sorted(trees))}; joined they are {rows:,} "
        f"{noun}{'' if rows == 1 else 's'}."
    )
    if "rounds" in trees:
        remedy = "Rows that no row follows end one; set parent_id as unused to train each row."
    elif any(file.join.pairs for file in files):
        remedy = "Of replies with a rank the best is chosen over each of the others."
    else:
        remedy = (
            "Of replies with a rank only the best is used; every other answer ends one. The row "
            "type preference makes pairs of ranked replies."
        )
    return [DataFinding("message-tree", "note", what, remedy, name, rows)]


def chat_finding(counts: ChatCounts, person: str, file: str) -> DataFinding:
    """Return the note of how a chat export is read and what of it is left out."""
    noun = "conversation" if counts.conversations == 1 else "conversations"
    what = (
        f"It is a chat export, read as {counts.conversations:,} {noun} with answers of "
        f"{person[:60]}, who wrote {counts.persons[person]:,} of {counts.messages:,} messages. "
        f"Left out: messages without an answer ({counts.unanswered:,}), system lines "
        f"({counts.system:,}) and marks of media ({counts.media:,})."
    )
    remedy = "Set chat_person, chat_pause and chat_mask of the source to change this."
    return DataFinding("chat-export", "note", what, remedy, file, counts.conversations)


def format_places(places: list[Place], count: int, unit: str = "line") -> str:
    """Return places as text: “lines 4 (answer), 9 and 3 more”."""
    more = count - len(places)
    listed = [f"{line}{_format_column(column)}" for line, column in places]
    noun = unit if count == 1 else f"{unit}s"
    return f"{noun} {', '.join(listed)}" + (f" and {more:,} more" if more else "")


def _format_error_places(places: list[Place], count: int) -> str:
    line, column = places[0]
    if count > 1:
        return f"{count:,} places, the first at line {line}{_format_column(column)}: it"
    return f"Line {line}" + (f", column {column}," if column is not None else "")


def _format_column(column: int | str | None) -> str:
    if column is None:
        return ""
    return f" (column {column})" if isinstance(column, int) else f" ({column[:60]})"
