"""Explain why the columns of a file match no known pattern."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelforge.data.checks.findings import DataFinding
from modelforge.data.columns.names import Rows, columns_of, is_message_tree
from modelforge.data.formats.sniff import DataFile
from modelforge.errors import DataError

_UNSUPPORTED_DELIMITERS = "^~:#/ "
_MANY_COLUMNS = 1000
_PAIR_HEADER = "input,output"
# Code, message, remedy, column of the place, and repair.
_Explanation = tuple[str, str, str, int | None, str | None]


def explain_unknown_columns(
    file: DataFile, rows: Sequence[dict[str, Any]], error: DataError
) -> DataFinding:
    """Return the finding for rows that match no pattern.

    `error` is what `detect_mapping` raised for them.
    """
    problem = error.problems[0]
    columns = columns_of(rows)
    remedy = f"{problem.remedy} Or set the column of each part."
    explanation: _Explanation | None
    if is_message_tree(columns):
        explanation = "tree-columns", f"It {problem.what}", problem.remedy, None, None
    elif file.format in ("csv", "tsv") and columns:
        explanation = _explain_table(columns, rows)
    else:
        is_alone = len(rows) == 1 and file.suffix == ".json"
        explanation = _explain_objects(columns, is_alone, remedy)
    if explanation is None:
        explanation = "unknown-columns", f"It {problem.what}", remedy, None, None
    code, what, remedy, column, repair = explanation
    return DataFinding(code, "blocker", what, remedy, file.name, 1, [(1, column)], repair)


def _explain_table(columns: list[str], rows: Rows) -> _Explanation | None:
    name = columns[0]
    if len(columns) > 1:
        if not any(_looks_like_data(name) for name in columns):
            return None
        what = "Its first line is a row, not the names of the columns."
        repair = f"Add the header {_PAIR_HEADER}." if len(columns) == 2 else None
        return "no-header", what, f"Add a header line such as {_PAIR_HEADER}.", 1, repair
    delimiter = next((mark for mark in _UNSUPPORTED_DELIMITERS if mark in name), "")
    if delimiter and str(rows[0][name]).count(delimiter) == name.count(delimiter):
        what = f"Its columns seem to be separated by “{delimiter}”, which is not supported."
        remedy = "Save the table with commas, semicolons, tabs or vertical bars."
        repair = f"Split the columns at “{delimiter}”."
        return "wrong-delimiter", what, remedy, name.index(delimiter) + 1, repair
    what = f"It has only the column {name[:40]}; a prompt needs a completion."
    remedy = "Add a column with the completions, or name the column text for plain text."
    return "one-column", what, remedy, 1, "Name the column text."


def _explain_objects(columns: list[str], is_alone: bool, remedy: str) -> _Explanation | None:
    if is_alone:
        what = f"It is one object, not a list of rows ({', '.join(columns[:4])[:80]})."
        remedy = 'Write a list of objects, as in [{"input": "…", "output": "…"}].'
        return "object-without-rows", what, remedy, 1, None
    if columns and all(name.strip("-").isdigit() for name in columns):
        what = f"Its fields are numbered ({', '.join(columns[:4])}), not named."
        remedy = "Name them input and output, or set the column of each part."
        repair = "Name them input and output." if len(columns) == 2 else None
        return "numeric-keys", what, remedy, 1, repair
    if len(columns) > _MANY_COLUMNS:
        what = f"It has {len(columns):,} columns, none of which is known."
        return "many-columns", what, remedy, None, None
    return None


def _looks_like_data(name: str) -> bool:
    """Return whether a header cell reads like a sentence or a number."""
    return len(name.split()) > 3 or name.strip()[-1:] in tuple("?.!") or name.isdigit()
