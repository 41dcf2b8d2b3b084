"""Detect the format, compression and encoding of a data file from its content and suffix."""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from modelforge.data.formats.encoding import HEAD_BYTES, detect_encoding, given_encoding
from modelforge.data.formats.errors import ReadError, read_error
from modelforge.data.formats.joining import NO_OPTIONS, JoinOptions
from modelforge.data.formats.streams import (
    COMPRESSION_SUFFIXES,
    COMPRESSIONS,
    decompress,
    replace_cr,
    transcode,
)
from modelforge.paths import open_regular
from modelforge.units import MIB

Format = Literal["json", "csv", "tsv", "parquet", "arrow", "text", "markdown"]

MAX_ROW_BYTES = 16 * MIB
MAX_COLUMNS = 10_000
DELIMITERS = ",;\t|"
SUFFIXES = (
    ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather", ".txt", ".md",
    ".gz", ".zst",
)  # fmt: skip
FORMAT_NAMES = "JSON, JSONL, CSV, TSV, Parquet, Arrow, TXT or Markdown"

_TABLE_SUFFIXES = (".parquet", ".arrow", ".feather")
_TEXT_FORMATS: dict[str, Format] = {".md": "markdown", ".markdown": "markdown", ".txt": "text"}
# A .txt with one of these columns in its first line is a table.
_KNOWN_COLUMNS = frozenset(
    {"input", "output", "prompt", "completion", "instruction", "question", "answer", "answers"}
    | {"text", "messages", "document", "article", "summary", "chosen", "rejected", "context"}
    | {"label", "response", "system"}
)
_LINE_END = re.compile(r"\r?\n|\r")
_ZIP = "is a ZIP archive or an office document"
_UNSUPPORTED = (
    (b"PK\x03\x04", "unsupported-format", _ZIP, "Unpack it, or save the table as CSV."),
    (b"%PDF", "unsupported-format", "is a PDF", f"Save the rows as {FORMAT_NAMES}."),
    (b"PARE", "encrypted", "is an encrypted Parquet file", "Save it without encryption."),
    (b"FEA1", "unsupported-format", "is a Feather version 1 file", "Save it as Parquet."),
)


class Row(NamedTuple):
    """One row of a file; `line` is its first line, or its number in a binary table, from 1."""

    line: int
    data: dict[str, Any]


@dataclass(frozen=True)
class DataFile:
    """A data file whose format is known; `ends_in_cr` if its lines end as on old Macs.

    `join` is how its rows are joined if they are a message tree.
    """

    path: Path
    format: Format
    encoding: str = "utf-8"
    bom: int = 0
    compression: str = ""
    is_encoding_guessed: bool = False
    ends_in_cr: bool = False
    join: JoinOptions = NO_OPTIONS

    @property
    def name(self) -> str:
        """The file's name, as used in messages."""
        return self.path.name

    @property
    def suffix(self) -> str:
        """The lower-case suffix of the content."""
        return content_suffix(self.path)

    @property
    def is_text(self) -> bool:
        """Whether the format is a text format."""
        return self.format not in ("parquet", "arrow")

    @property
    def is_plain_utf8(self) -> bool:
        """Whether the bytes of the file are the UTF-8 text itself."""
        return not self.compression and self.encoding == "utf-8" and not self.ends_in_cr

    def open(self) -> BinaryIO:
        """Open the decompressed text as UTF-8 bytes without byte order mark, with LF or CRLF."""
        stream = self.open_raw()
        stream.read(self.bom)
        if self.encoding != "utf-8":
            stream = transcode(self.name, self.encoding, stream)
        return replace_cr(stream) if self.ends_in_cr else stream

    def open_raw(self) -> BinaryIO:
        """Open the decompressed bytes in their own encoding."""
        if self.compression:
            return decompress(self.path, self.compression)
        return self.path.open("rb")


def content_suffix(path: Path) -> str:
    """Return the lower-case suffix of a file, without suffixes of compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSION_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def sniff_file(path: Path, encoding: str | None = None, join: JoinOptions = NO_OPTIONS) -> DataFile:
    """Return what kind of file `path` is; raises ReadError if it cannot be read.

    The encoding of a text is detected if it is None. `join` is for the rows of a message tree.
    """
    head = _read_head(path)
    compression = next((name for name, magic in COMPRESSIONS if head.startswith(magic)), "")
    if compression:
        with decompress(path, compression) as stream:
            head = stream.read(HEAD_BYTES)
    if not head.strip():
        raise _empty(path, head)
    suffix = content_suffix(path)
    table = _table_format(path, head, suffix)
    if table:
        if compression:
            what = f"is {table.capitalize()} compressed with {compression}."
            remedy = "Decompress it and use the file inside."
            raise read_error(path.name, what, remedy, code="compressed-table")
        return DataFile(path, table, join=join)
    if encoding:
        found = given_encoding(path.name, encoding, head)
    else:
        found = detect_encoding(path.name, head)
    text = head[found.bom :].decode(found.name, errors="replace")
    text_format = _text_format(path, text, suffix)
    is_cr = "\r" in text and "\n" not in text
    return DataFile(
        path, text_format, found.name, found.bom, compression, found.is_guess, is_cr, join
    )


def refuse_many_columns(file: DataFile, columns: int) -> None:
    """Raise ReadError for a table with more columns than can be shown and mapped."""
    if columns > MAX_COLUMNS:
        what = f"has {columns:,} columns; at most {MAX_COLUMNS:,} can be read."
        remedy = "Keep the columns that training needs, or check the delimiter."
        raise read_error(file.name, what, remedy, code="too-many-columns")


def _read_head(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            # Reading from a file of /proc, which has no size, may wait for ever.
            return file.read(HEAD_BYTES) if os.fstat(file.fileno()).st_size else b""
    except FileNotFoundError as error:
        what = f"does not exist at {path}."
        raise read_error(path.name, what, "Check the path.", code="file-not-found") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        what, remedy = f"cannot be opened: {reason}.", "Check its permissions."
        raise read_error(path.name, what, remedy, code="file-not-readable") from error


def _empty(path: Path, head: bytes) -> ReadError:
    what = "holds only blank lines." if head else "is empty."
    code = "blank-file" if head else "empty-file"
    return read_error(path.name, what, "Use a file with at least one row.", code=code, line=1)


def _table_format(path: Path, head: bytes, suffix: str) -> Literal["parquet", "arrow"] | None:
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"ARROW1"):
        return "arrow"
    for magic, code, what, remedy in _UNSUPPORTED:
        if head.startswith(magic):
            raise read_error(path.name, f"{what}.", remedy, code=code)
    if suffix == ".arrow" and head.startswith(b"\xff\xff\xff\xff"):
        return "arrow"
    if suffix in _TABLE_SUFFIXES:
        kind = "Parquet" if suffix == ".parquet" else "Arrow"
        remedy = "The file is damaged or has another format; export it again."
        what = f"has no {kind} signature at its start."
        raise read_error(path.name, what, remedy, code="bad-signature")
    return None


def _text_format(path: Path, text: str, suffix: str) -> Format:
    text = text.lstrip()
    if not text:
        raise _empty(path, b"")
    if suffix in (".csv", ".tsv"):
        # A header line is never a JSON object, so this file only has the wrong suffix.
        if text.startswith('{"'):
            return "json"
        return "tsv" if suffix == ".tsv" else "csv"
    if suffix in _TEXT_FORMATS:
        if text.startswith(('{"', '[{"')):
            return "json"
        return "csv" if suffix == ".txt" and _is_table_head(text) else _TEXT_FORMATS[suffix]
    if text.startswith(("{", "[")) or suffix in (".json", ".jsonl", ".ndjson"):
        return "json"
    first_line = _LINE_END.split(text, 1)[0]
    if suffix in ("", ".data") and any(delimiter in first_line for delimiter in DELIMITERS):
        return "csv"
    what, remedy = f"is not {FORMAT_NAMES}.", f"Save the rows as {FORMAT_NAMES}."
    raise read_error(path.name, what, remedy, code="unsupported-format")


def _is_table_head(text: str) -> bool:
    """Return whether the first line names known columns."""
    first_line = _LINE_END.split(text, 1)[0]
    for delimiter in DELIMITERS:
        cells = next(csv.reader([first_line], delimiter=delimiter), [])
        names = {cell.strip().lower() for cell in cells}
        if len(cells) > 1 and names & _KNOWN_COLUMNS:
            return True
    return False
