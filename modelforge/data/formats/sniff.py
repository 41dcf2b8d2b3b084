"""What kind of file it is: its format, packing and encoding, told from content and suffix."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from modelforge.data.formats.encoding import Encoding, detect_encoding, is_table_head
from modelforge.data.formats.errors import ReadError, read_error
from modelforge.data.formats.streams import (
    COMPRESSIONS,
    DecompressedStream,
    TranscodedStream,
    read_decompressed_head,
)
from modelforge.units import MIB

__all__ = [
    "FORMAT_NAMES",
    "HEAD_BYTES",
    "MAX_ROW_BYTES",
    "SUFFIXES",
    "DataFile",
    "ReadError",
    "Row",
    "read_error",
    "sniff_file",
]  # fmt: skip

Format = Literal["json", "csv", "tsv", "parquet", "arrow", "text", "markdown"]

MAX_ROW_BYTES = 16 * MIB
HEAD_BYTES = MIB
SUFFIXES = (
    ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather", ".txt", ".md",
    ".gz", ".zst",
)  # fmt: skip
FORMAT_NAMES = "JSON, JSONL, CSV, TSV, Parquet, Arrow, TXT or Markdown"

_TABLES = (".parquet", ".arrow", ".feather")
_TEXTS: dict[str, Format] = {".md": "markdown", ".markdown": "markdown", ".txt": "text"}
_ZIP = "is a ZIP archive or an office document"
_FOREIGN = (
    (b"PK\x03\x04", "other-format", _ZIP, "Unpack it, or save the table as CSV."),
    (b"%PDF", "other-format", "is a PDF", f"Give the rows as {FORMAT_NAMES}."),
    (b"PARE", "encrypted", "is an encrypted Parquet file", "Save it without encryption."),
    (b"FEA1", "other-format", "is a Feather file of the first version", "Save it as Parquet."),
)


class Row(NamedTuple):
    """One row as the file has it; `line` is where it begins (in tables: its number), from 1."""

    line: int
    data: dict[str, Any]


@dataclass(frozen=True)
class DataFile:
    """A data file that has been recognised."""

    path: Path
    format: Format
    encoding: str = "utf-8"
    bom: int = 0
    compression: str = ""

    @property
    def name(self) -> str:
        """The file's name, as messages say it."""
        return self.path.name

    @property
    def suffix(self) -> str:
        """The suffix of what is inside, in lower case."""
        return inner_suffix(self.path)

    @property
    def is_plain_utf8(self) -> bool:
        """Whether the bytes of the file are the UTF-8 that is read."""
        return not self.compression and self.encoding == "utf-8"

    def open(self) -> BinaryIO:
        """Open the text as UTF-8 bytes without a byte order mark, whatever packs or encodes it."""
        raw: BinaryIO = self.path.open("rb")
        if self.compression:
            raw = io.BufferedReader(
                DecompressedStream(self.path, raw, self.compression), buffer_size=2**18
            )
            raw.read(self.bom)
        else:
            raw.seek(self.bom)
        if self.encoding == "utf-8":
            return raw
        return io.BufferedReader(TranscodedStream(self.name, self.encoding, raw), buffer_size=2**18)


def inner_suffix(path: Path) -> str:
    """Return the suffix in lower case; of packed files that of what is inside."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in (".gz", ".zst", ".gzip", ".zstd"):
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def sniff_file(path: Path) -> DataFile:
    """Return what kind of file `path` is; raises DataError for what cannot be read."""
    head = _head(path)
    packing = next((name for name, magic in COMPRESSIONS if head.startswith(magic)), "")
    if packing:
        head = read_decompressed_head(path, packing, HEAD_BYTES)
    _refuse_empty(path, head)
    suffix = inner_suffix(path)
    table = _table(path, head, suffix)
    if table:
        if packing:
            what = f"is {table.capitalize()} packed with {packing}."
            raise read_error(path.name, what, "Unpack it and give the file inside.", code="packed")
        return DataFile(path, table)
    found = detect_encoding(path.name, head)
    kind = _text_format(path, head, suffix, found)
    return DataFile(path, kind, found.name, found.bom, packing)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        raise read_error(path.name, f"is not at {path}.", "Check the path.", code="gone") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        what = f"cannot be opened: {reason}."
        raise read_error(path.name, what, "Check its rights.", code="closed") from error


def _refuse_empty(path: Path, head: bytes) -> None:
    if head.strip():
        return
    what = "is empty: it holds nothing but blank lines." if head else "is empty."
    code = "only-blanks" if head else "empty-file"
    raise read_error(path.name, what, "Give a file with at least one row.", code=code, line=1)


def _table(path: Path, head: bytes, suffix: str) -> Literal["parquet", "arrow"] | None:
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"ARROW1"):
        return "arrow"
    for magic, code, what, remedy in _FOREIGN:
        if head.startswith(magic):
            raise read_error(path.name, f"{what}.", remedy, code=code)
    if suffix == ".arrow" and head.startswith(b"\xff\xff\xff\xff"):
        return "arrow"
    if suffix in _TABLES:
        kind = "Parquet" if suffix == ".parquet" else "Arrow"
        remedy = "The file is damaged or is something else; export it again."
        what = f"has no {kind} signature at its start."
        raise read_error(path.name, what, remedy, code="wrong-magic")
    return None


def _text_format(path: Path, head: bytes, suffix: str, found: Encoding) -> Format:
    text = head[found.bom :].decode(found.name, errors="replace").lstrip()
    if not text:
        remedy = "Give a file with at least one row."
        raise read_error(path.name, "is empty.", remedy, code="empty-file", line=1)
    looks_json = text.startswith(("{", "["))
    if suffix in (".csv", ".tsv"):
        # A header line never is an object, so such a file only has the wrong name.
        return "json" if text.startswith('{"') else ("tsv" if suffix == ".tsv" else "csv")
    if suffix in _TEXTS:
        if text.startswith(('{"', '[{"')):
            return "json"
        return "csv" if suffix == ".txt" and is_table_head(text) else _TEXTS[suffix]
    if looks_json or suffix in (".json", ".jsonl", ".ndjson"):
        return "json"
    first = text.split("\n", 1)[0]
    if suffix in ("", ".data") and any(mark in first for mark in ",;\t|"):
        return "csv"
    what = f"is not {FORMAT_NAMES}."
    raise read_error(path.name, what, f"Save the rows as {FORMAT_NAMES}.", code="other-format")
