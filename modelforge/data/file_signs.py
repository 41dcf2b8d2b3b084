"""What is odd about a file as a whole: its encoding, line ends, packing, and its header."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from modelforge.data.encoding import LATIN
from modelforge.data.findings import DataFinding
from modelforge.data.json_rows import shape_of
from modelforge.data.source import HEAD, Source
from modelforge.data.table_rows import delimiter_of
from modelforge.errors import DataError

REWRITE = "Write the rows as lines of JSON in UTF-8."
_LINES = (".jsonl", ".ndjson")
_OTHER_MARKS = "^~:#/ "


def file_findings(source: Source) -> Iterator[DataFinding]:
    """Yield what is odd about how the file is written; none of it stands against training."""
    name = source.name
    if source.packing and source.path.suffix.lower() not in (".gz", ".zst", ".gzip", ".zstd"):
        what = f"It is packed with {source.packing}, though its name does not say so."
        yield _note("packed-unsaid", what, "It is read as what is inside.", name)
    if source.format in ("parquet", "arrow"):
        return
    if source.encoding in LATIN:
        yield _latin(source)
    elif source.encoding != "utf-8":
        what = f"It is {source.encoding.upper()}, not UTF-8."
        yield _note("not-utf-8-file", what, "It is read as such.", name)
    elif source.bom:
        what = "A byte order mark stands before the first row."
        yield _note("byte-order-mark", what, "It is left out on reading.", name)
    with source.open() as stream:
        head = stream.read(HEAD)
    both = head.count(b"\r\n")
    if 0 < both < head.count(b"\n"):
        odd = b"\r\n" if both * 2 <= head.count(b"\n") else b"\n"
        line = _first_line(head, odd)
        what = f"Its lines end in two ways; the first that differs is line {line}."
        yield _note("mixed-line-ends", what, "Both are read.", name, line)
    if source.format == "json" and source.suffix in _LINES and shape_of(source) == "array":
        what = "It is one list instead of a row a line."
        yield _note("list-not-lines", what, "It is read all the same.", name)
    if source.format == "csv" and delimiter_of(source) != "," and source.suffix == ".csv":
        mark = {"\t": "tabs", ";": "semicolons", "|": "bars"}[delimiter_of(source)]
        what = f"Its columns are parted by {mark}, not by commas."
        yield _note("other-delimiter", what, "It is read as such.", name)


def _latin(source: Source) -> DataFinding:
    line, column = 1, 1
    with source.path.open("rb") as file:
        for number, text in enumerate(iter(lambda: file.readline(HEAD), b""), start=1):
            if not text.isascii():
                line = number
                column = next(at for at, byte in enumerate(text, start=1) if byte > 127)
                break
    what = f"It is Windows-1252 (Latin-1), not UTF-8: line {line}, column {column}."
    remedy = "It is read as such; check the accents."
    return _note("latin-1", what, remedy, source.name, line, column)


def _first_line(head: bytes, end: bytes) -> int:
    at = -1
    while (at := head.find(end, at + 1)) != -1:
        if end == b"\r\n" or head[at - 1 : at] != b"\r":
            return head.count(b"\n", 0, at) + 1
    return 1


def _note(
    code: str, what: str, remedy: str, file: str, line: int = 1, column: int = 1
) -> DataFinding:
    return DataFinding(code, "note", what, remedy, file, 1, [(line, column)], REWRITE)


def unknown_columns(
    source: Source, rows: Sequence[dict[str, Any]], error: DataError
) -> DataFinding:
    """Return why no spelling fits, as near as it can be told."""
    problem = error.problems[0]
    columns = list(dict.fromkeys(str(name) for row in rows for name in row))
    code, what, remedy, column, repair = (
        "unknown-columns", f"It {problem.what}", problem.remedy, None, None,
    )  # fmt: skip
    if source.format in ("csv", "tsv") and columns:
        mark = next((each for each in _OTHER_MARKS if columns[0].count(each) > 0), "")
        if (
            len(columns) == 1
            and mark
            and columns[0].count(mark) == next(iter(rows[0].values())).count(mark)
        ):
            code, column = "wrong-delimiter", columns[0].index(mark) + 1
            what = f"Its columns seem to be parted by “{mark}”, which is not read."
            remedy = "Save the table with commas, semicolons, tabs or bars."
            repair = f"Part the columns at “{mark}”."
        elif len(columns) == 1:
            code, column = "one-column", 1
            what = f"It has one column only, {columns[0][:40]}; a question needs its answer."
            remedy = "Add a column with the answers, or name the column text to learn plain text."
            repair = "Name the column text."
        elif any(_is_said(name) for name in columns):
            code, column = "no-header", 1
            what = "Its first line is a row, not the names of the columns."
            remedy = "Put a line such as input,output on top."
            repair = "Put input,output on top." if len(columns) == 2 else None
    elif len(rows) == 1 and source.suffix == ".json":
        code, column = "object-not-list", 1
        what = f"It is one object instead of a list of rows ({', '.join(columns[:4])[:80]})."
        remedy = 'Give a list of objects, as in [{"input": "…", "output": "…"}].'
    elif columns and all(name.strip("-").isdigit() for name in columns):
        code, column = "number-keys", 1
        what = f"Its fields are numbered ({', '.join(columns[:4])}) instead of named."
        remedy = "Name them input and output, or say which is which."
        repair = "Name them input and output." if len(columns) == 2 else None
    elif len(columns) > 1000:
        code, what = "many-columns", f"It has {len(columns):,} columns, none of which is known."
    return DataFinding(code, "blocker", what, remedy, source.name, 1, [(1, column)], repair)


def _is_said(name: str) -> bool:
    """Whether a header's cell reads like a sentence or a number, not like a name."""
    return len(name.split()) > 3 or name.strip()[-1:] in tuple("?.!") or name.isdigit()
