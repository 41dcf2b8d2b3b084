"""Why the columns of a file say neither question nor answer, as near as it can be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from modelforge.data.checks.findings import DataFinding
from modelforge.data.formats.sniff import DataFile
from modelforge.errors import DataError

_MARKS = "^~:#/ "
_MANY = 1000
_LIST = 'Give a list of objects, as in [{"input": "…", "output": "…"}].'


def explain_unknown_columns(
    source: DataFile, rows: Sequence[dict[str, Any]], error: DataError
) -> DataFinding:
    """Return the finding for rows that no spelling fits; `error` is what was said of them."""
    problem = error.problems[0]
    columns = list(dict.fromkeys(str(name) for row in rows for name in row))
    found = DataFinding(
        "unknown-columns",
        "blocker",
        f"It {problem.what}",
        f"{problem.remedy} Or say yourself which column is which.",
        source.name,
        1,
        [(1, None)],
    )
    if source.format in ("csv", "tsv") and columns:
        return _of_table(found, columns, rows)
    return _of_objects(found, columns, len(rows) == 1 and source.suffix == ".json")


def _of_table(
    found: DataFinding, columns: list[str], rows: Sequence[dict[str, Any]]
) -> DataFinding:
    first = columns[0]
    if len(columns) == 1:
        mark = next((each for each in _MARKS if each in first), "")
        if mark and str(rows[0][first]).count(mark) == first.count(mark):
            return replace(
                found,
                code="wrong-delimiter",
                what=f"Its columns seem to be parted by “{mark}”, which is not read.",
                remedy="Save the table with commas, semicolons, tabs or bars.",
                places=[(1, first.index(mark) + 1)],
                repair=f"Part the columns at “{mark}”.",
            )
        return replace(
            found,
            code="one-column",
            what=f"It has one column only, {first[:40]}; a question needs its answer.",
            remedy="Add a column with the answers, or name the column text to learn plain text.",
            places=[(1, 1)],
            repair="Name the column text.",
        )
    if any(_is_said(name) for name in columns):
        return replace(
            found,
            code="no-header",
            what="Its first line is a row, not the names of the columns.",
            remedy="Put a line such as input,output on top.",
            places=[(1, 1)],
            repair="Put input,output on top." if len(columns) == 2 else None,
        )
    return found


def _of_objects(found: DataFinding, columns: list[str], alone: bool) -> DataFinding:
    if alone:
        what = f"It is one object instead of a list of rows ({', '.join(columns[:4])[:80]})."
        return replace(found, code="object-not-list", what=what, remedy=_LIST, places=[(1, 1)])
    if columns and all(name.strip("-").isdigit() for name in columns):
        return replace(
            found,
            code="number-keys",
            what=f"Its fields are numbered ({', '.join(columns[:4])}) instead of named.",
            remedy="Name them input and output, or say which is which.",
            places=[(1, 1)],
            repair="Name them input and output." if len(columns) == 2 else None,
        )
    if len(columns) > _MANY:
        what = f"It has {len(columns):,} columns, none of which is known."
        return replace(found, code="many-columns", what=what)
    return found


def _is_said(name: str) -> bool:
    """Whether a header's cell reads like a sentence or a number, not like a name."""
    return len(name.split()) > 3 or name.strip()[-1:] in tuple("?.!") or name.isdigit()
