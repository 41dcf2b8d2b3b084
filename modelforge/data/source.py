"""What kind of file it is: its format and encoding, told from the content and the suffix."""

from __future__ import annotations

import codecs
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from modelforge.errors import DataError, Problem

Format = Literal["json", "csv", "tsv", "parquet"]

LONGEST_ROW = 16 * 2**20
HEAD = 2**20
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
KNOWN = "JSON, JSONL, CSV, TSV or Parquet"

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_FOREIGN = (
    (b"\x1f\x8b", "is compressed with gzip", "Unpack it and give the file inside."),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", "Unpack it and give the file inside."),
    (b"PK\x03\x04", "is a ZIP archive or an office document", "Save the table as CSV."),
    (b"%PDF", "is a PDF", f"Give the rows as {KNOWN}."),
    (b"ARROW1", "is an Arrow file", "Save it as Parquet."),
    (b"PARE", "is an encrypted Parquet file", "Save it without encryption."),
)


class Row(NamedTuple):
    """One row as the file has it; `line` is where it begins (in Parquet: its number), from 1."""

    line: int
    data: dict[str, Any]


@dataclass(frozen=True)
class Source:
    """A data file that has been recognised."""

    path: Path
    format: Format
    encoding: str = "utf-8"
    bom: int = 0

    @property
    def name(self) -> str:
        """The file's name, as messages say it."""
        return self.path.name

    def open(self) -> BinaryIO:
        """Open the text as UTF-8 bytes without a byte order mark, whatever the encoding."""
        raw = self.path.open("rb")
        raw.seek(self.bom)
        if self.encoding == "utf-8":
            return raw
        return io.BufferedReader(_Transcoded(self, raw), buffer_size=2**18)


def trouble(
    name: str, what: str, remedy: str, *, line: int | None = None, column: int | None = None
) -> DataError:
    """Return the error that names file, line and column."""
    place = [name]
    if line is not None:
        place.append(f"line {line}")
    if column is not None:
        place.append(f"column {column}")
    return DataError(Problem(", ".join(place), what, remedy))


def recognise(path: Path) -> Source:
    """Return what kind of file `path` is; raises DataError for what cannot be read."""
    head = _head(path)
    if not head.strip():
        raise trouble(path.name, "is empty.", "Give a file with at least one row.")
    if head.startswith(b"PAR1"):
        return Source(path, "parquet")
    for magic, what, remedy in _FOREIGN:
        if head.startswith(magic):
            raise trouble(path.name, f"{what}.", remedy)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        remedy = "The file is damaged or is something else; export it again."
        raise trouble(path.name, "has no Parquet signature at its start.", remedy)
    encoding, bom = _encoding(path.name, head)
    return Source(path, _text_format(path, head, encoding, bom), encoding, bom)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(2**16)
    except FileNotFoundError as error:
        raise trouble(path.name, f"is not at {path}.", "Check the path.") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise trouble(path.name, f"cannot be opened: {reason}.", "Check its rights.") from error


def _encoding(name: str, head: bytes) -> tuple[str, int]:
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return encoding, len(bom)
    if b"\0" not in head:
        return "utf-8", 0
    # UTF-16 without a mark: in mostly Latin text every second byte is zero.
    for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if head[offset::2].count(0) > 0.3 * (len(head) / 2) and head[1 - offset :: 2].count(0) == 0:
            return encoding, 0
    line = head[: head.index(b"\0")].count(b"\n") + 1
    remedy = f"It is no text, or was damaged. Give {KNOWN}."
    raise trouble(name, "holds a zero byte.", remedy, line=line)


def _text_format(path: Path, head: bytes, encoding: str, bom: int) -> Format:
    suffix = path.suffix.lower()
    text = head[bom:].decode(encoding, errors="replace").lstrip()
    if not text:
        raise trouble(path.name, "is empty.", "Give a file with at least one row.")
    looks_json = text.startswith(("{", "["))
    if suffix in (".csv", ".tsv"):
        # A header line never is an object, so such a file only has the wrong name.
        return "json" if text.startswith('{"') else ("tsv" if suffix == ".tsv" else "csv")
    if looks_json or suffix in (".json", ".jsonl", ".ndjson"):
        return "json"
    first = text.split("\n", 1)[0]
    if suffix in ("", ".txt", ".data") and any(mark in first for mark in ",;\t|"):
        return "csv"
    raise trouble(path.name, f"is not {KNOWN}.", f"Save the rows as {KNOWN}.")


class _Transcoded(io.RawIOBase):
    """UTF-16 or UTF-32 bytes read as UTF-8, a piece at a time."""

    def __init__(self, source: Source, raw: BinaryIO) -> None:
        self.source = source
        self.raw = raw
        self.decoder = codecs.getincrementaldecoder(source.encoding)("strict")
        self.waiting = b""
        self.line = 1

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.waiting:
            piece = self.raw.read(2**16)
            try:
                text = self.decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                what = f"is not {self.source.encoding.upper()} text ({error.reason})."
                remedy = "Save the file as UTF-8."
                raise trouble(self.source.name, what, remedy, line=self.line) from error
            self.line += text.count("\n")
            # A lone surrogate cannot be UTF-8; the reader of the row names its line.
            self.waiting = text.encode("utf-8", errors="surrogatepass")
            if not piece:
                break
        size = min(len(buffer), len(self.waiting))
        buffer[:size] = self.waiting[:size]
        self.waiting = self.waiting[size:]
        return size

    def close(self) -> None:
        self.raw.close()
        super().close()
