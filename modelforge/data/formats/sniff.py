"""Detect the format, compression and encoding of a data file from its content and suffix."""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, NamedTuple

from modelforge.data.chats.detect import (
    CHAT_NAMES,
    ChatFormat,
    detect_chat_json,
    is_named_whatsapp,
    is_whatsapp,
    looks_dated,
)
from modelforge.data.formats.archive import read_archive
from modelforge.data.formats.encoding import HEAD_BYTES, detect_encoding, given_encoding
from modelforge.data.formats.errors import ReadError, read_error
from modelforge.data.formats.joining import NO_OPTIONS, JoinOptions
from modelforge.data.formats.options import DEFAULT_OPTIONS, ReadOptions
from modelforge.data.formats.streams import (
    COMPRESSION_SUFFIXES,
    COMPRESSIONS,
    decompress,
    replace_cr,
    transcode,
)
from modelforge.paths import open_regular
from modelforge.units import MIB

Format = Literal[
    "json", "csv", "tsv", "parquet", "arrow", "xlsx", "text", "markdown",
    "whatsapp", "telegram", "discord", "slack",
]  # fmt: skip

MAX_ROW_BYTES = 16 * MIB
MAX_COLUMNS = 10_000
DELIMITERS = ",;\t|"
SUFFIXES = (
    ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather", ".txt", ".md",
    ".xlsx", ".gz", ".zst", ".zip",
)  # fmt: skip
FORMAT_NAMES = "JSON, JSONL, CSV, TSV, Parquet, Arrow, Excel (XLSX), TXT or Markdown"
CHAT_FORMATS = frozenset(CHAT_NAMES)
# Formats of which a row is a row of a table, not a line of a text.
TABLE_FORMATS = frozenset({"parquet", "arrow", "xlsx"})

_TABLE_SUFFIXES = (".parquet", ".arrow", ".feather")
_TEXT_FORMATS: dict[str, Format] = {".md": "markdown", ".markdown": "markdown", ".txt": "text"}
# A .txt with one of these columns in its first line is a table.
_KNOWN_COLUMNS = frozenset(
    {"input", "output", "prompt", "completion", "instruction", "question", "answer", "answers"}
    | {"text", "messages", "document", "article", "summary", "chosen", "rejected", "context"}
    | {"label", "response", "system"}
)
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_LINE_END = re.compile(r"\r?\n|\r")
_UNSUPPORTED = (
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

    `join` is how its rows are joined if they are a message tree. `member` is the file inside a ZIP
    archive, `members` those of an archive of a whole export.
    """

    path: Path
    format: Format
    encoding: str = "utf-8"
    bom: int = 0
    compression: str = ""
    is_encoding_guessed: bool = False
    ends_in_cr: bool = False
    join: JoinOptions = NO_OPTIONS
    options: ReadOptions = DEFAULT_OPTIONS
    member: str = ""
    members: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's name, as used in messages."""
        inside = f" ({PurePosixPath(self.member).name})" if self.member else ""
        return f"{self.path.name}{inside}"

    @property
    def suffix(self) -> str:
        """The lower-case suffix of the content."""
        return content_suffix(Path(self.member) if self.member else self.path)

    @property
    def is_text(self) -> bool:
        """Whether the file is one text."""
        return self.format not in TABLE_FORMATS and not self.members

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
            return decompress(self.path, self.compression, self.member)
        return self.path.open("rb")


def content_suffix(path: Path) -> str:
    """Return the lower-case suffix of a file, without suffixes of compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSION_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def sniff_file(
    path: Path, options: ReadOptions = DEFAULT_OPTIONS, join: JoinOptions = NO_OPTIONS
) -> DataFile:
    """Return what kind of file `path` is; raises ReadError if it cannot be read.

    The encoding of a text is detected if it is not set. `join` is for the rows of a message tree.
    """
    head = _read_head(path)
    compression = next((name for name, magic in COMPRESSIONS if head.startswith(magic)), "")
    member = ""
    if head.startswith(_ZIP_MAGIC):
        archive = read_archive(path)
        if archive.kind == "workbook":
            return DataFile(path, "xlsx", options=options, join=join)
        if archive.kind == "slack":
            members = archive.members
            return DataFile(path, "slack", compression="zip", options=options, members=members)
        compression, member = "zip", archive.members[0]
    if compression:
        with decompress(path, compression, member) as stream:
            head = stream.read(HEAD_BYTES)
    if not head.strip():
        raise _empty(path, head)
    suffix = content_suffix(Path(member) if member else path)
    table = _table_format(path, head, suffix)
    if table:
        if compression:
            what = f"is {table.capitalize()} compressed with {compression}."
            remedy = "Decompress it and use the file inside."
            raise read_error(path.name, what, remedy, code="compressed-table")
        return DataFile(path, table, options=options, join=join)
    file = DataFile(path, "text", compression=compression, member=member)
    return _text_file(replace(file, options=options, join=join), head)


def _text_file(file: DataFile, head: bytes) -> DataFile:
    """Return a text file with its format and encoding."""
    options = file.options
    if options.encoding:
        found = given_encoding(file.name, options.encoding, head)
    else:
        found = detect_encoding(file.name, head)
    text = head[found.bom :].decode(found.name, errors="replace")
    text_format = _chat_format(file, text) or _text_format(file.path, text, file.suffix)
    return replace(
        file,
        format=text_format,
        encoding=found.name,
        bom=found.bom,
        is_encoding_guessed=found.is_guess,
        ends_in_cr="\r" in text and "\n" not in text,
    )


def _chat_format(file: DataFile, text: str) -> ChatFormat | None:
    """Return the messenger whose export a text is; None for others and those read as plain text."""
    text = text.lstrip()
    if file.suffix == ".json":
        return detect_chat_json(text)
    if file.suffix != ".txt" or file.options.type == "text":
        return None
    if is_whatsapp(text):
        return "whatsapp"
    if is_named_whatsapp(Path(file.member or file.path.name).name) and looks_dated(text):
        what = "is named like a WhatsApp export, and its first line has no date that can be read."
        remedy = "Export the chat again, or set the row type to text to train on the text as it is."
        raise read_error(file.name, what, remedy, code="chat-date", line=1)
    return None


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
