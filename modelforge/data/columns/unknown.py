"""Explain why the columns of a file match no known pattern."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from modelforge.data.checks.findings import DataFinding
from modelforge.data.columns.names import columns_of
from modelforge.data.formats.sniff import DataFile
from modelforge.errors import DataError

_UNSUPPORTED_DELIMITERS = "^~:#/ "
_MANY_COLUMNS = 1000
_PAIR_HEADER = "input,output"


def explain_unknown_columns(
    file: DataFile, rows: Sequence[dict[str, Any]], error: DataError
) -> DataFinding:
    """Return the finding for rows that match no pattern.

    `error` is what `detect_mapping` raised for them.
    """
    problem = error.problems[0]
    columns = columns_of(rows)
    finding = DataFinding(
        "unknown-columns",
        "blocker",
        f"It {problem.what}",
        f"{problem.remedy} Or set the column of each part.",
        file.name,
        1,
        [(1, None)],
    )
    if file.format in ("csv", "tsv") and columns:
        return _explain_table(finding, columns, rows)
    return _explain_objects(finding, columns, len(rows) == 1 and file.suffix == ".json")


def _explain_table(
    finding: DataFinding, columns: list[str], rows: Sequence[dict[str, Any]]
) -> DataFinding:
    first = columns[0]
    finding = replace(finding, places=[(1, 1)])
    if len(columns) == 1:
        return _explain_one_column(finding, first, rows)
    if any(_looks_like_data(name) for name in columns):
        return replace(
            finding,
            code="no-header",
            what="Its first line is a row, not the names of the columns.",
            remedy=f"Add a header line such as {_PAIR_HEADER}.",
            repair=f"Add the header {_PAIR_HEADER}." if len(columns) == 2 else None,
        )
    return replace(finding, places=[(1, None)])


def _explain_one_column(
    finding: DataFinding, name: str, rows: Sequence[dict[str, Any]]
) -> DataFinding:
    delimiter = next((mark for mark in _UNSUPPORTED_DELIMITERS if mark in name), "")
    if delimiter and str(rows[0][name]).count(delimiter) == name.count(delimiter):
        return replace(
            finding,
            code="wrong-delimiter",
            what=f"Its columns seem to be separated by “{delimiter}”, which is not supported.",
            remedy="Save the table with commas, semicolons, tabs or vertical bars.",
            places=[(1, name.index(delimiter) + 1)],
            repair=f"Split the columns at “{delimiter}”.",
        )
    return replace(
        finding,
        code="one-column",
        what=f"It has only the column {name[:40]}; a prompt needs a completion.",
        remedy="Add a column with the completions, or name the column text for plain text.",
        repair="Name the column text.",
    )


def _explain_objects(finding: DataFinding, columns: list[str], is_alone: bool) -> DataFinding:
    if is_alone:
        what = f"It is one object, not a list of rows ({', '.join(columns[:4])[:80]})."
        remedy = 'Write a list of objects, as in [{"input": "…", "output": "…"}].'
        return replace(
            finding, code="object-without-rows", what=what, remedy=remedy, places=[(1, 1)]
        )
    if columns and all(name.strip("-").isdigit() for name in columns):
        return replace(
            finding,
            code="numeric-keys",
            what=f"Its fields are numbered ({', '.join(columns[:4])}), not named.",
            remedy="Name them input and output, or set the column of each part.",
            places=[(1, 1)],
            repair="Name them input and output." if len(columns) == 2 else None,
        )
    if len(columns) > _MANY_COLUMNS:
        what = f"It has {len(columns):,} columns, none of which is known."
        return replace(finding, code="many-columns", what=what)
    return finding


def _looks_like_data(name: str) -> bool:
    """Return whether a header cell reads like a sentence or a number."""
    return len(name.split()) > 3 or name.strip()[-1:] in tuple("?.!") or name.isdigit()
