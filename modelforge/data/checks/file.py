"""What is odd about a file as a whole: its encoding, line ends and packing."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.data.checks.findings import DataFinding
from modelforge.data.formats.csv import detect_delimiter
from modelforge.data.formats.encoding import LATIN
from modelforge.data.formats.json import detect_layout
from modelforge.data.formats.sniff import HEAD_BYTES, DataFile

REWRITE = "Write the rows as lines of JSON in UTF-8."
_LINES = (".jsonl", ".ndjson")


def check_file_format(source: DataFile) -> Iterator[DataFinding]:
    """Yield what is odd about how the file is written; none of it stands against training."""
    name = source.name
    if source.compression and source.path.suffix.lower() not in (".gz", ".zst", ".gzip", ".zstd"):
        what = f"It is packed with {source.compression}, though its name does not say so."
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
        head = stream.read(HEAD_BYTES)
    both = head.count(b"\r\n")
    if 0 < both < head.count(b"\n"):
        odd = b"\r\n" if both * 2 <= head.count(b"\n") else b"\n"
        line = _first_line(head, odd)
        what = f"Its lines end in two ways; the first that differs is line {line}."
        yield _note("mixed-line-ends", what, "Both are read.", name, line)
    if source.format == "json" and source.suffix in _LINES and detect_layout(source) == "array":
        what = "It is one list instead of a row a line."
        yield _note("list-not-lines", what, "It is read all the same.", name)
    if source.format == "csv" and detect_delimiter(source) != "," and source.suffix == ".csv":
        mark = {"\t": "tabs", ";": "semicolons", "|": "bars"}[detect_delimiter(source)]
        what = f"Its columns are parted by {mark}, not by commas."
        yield _note("other-delimiter", what, "It is read as such.", name)


def _latin(source: DataFile) -> DataFinding:
    line, column = 1, 1
    with source.path.open("rb") as file:
        for number, text in enumerate(iter(lambda: file.readline(HEAD_BYTES), b""), start=1):
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
