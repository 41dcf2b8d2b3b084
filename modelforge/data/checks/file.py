"""Checks of a file as a whole: compression, encoding, line endings and delimiter."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from modelforge.data.chats.detect import CHAT_NAMES
from modelforge.data.chats.message import ChatCounts
from modelforge.data.chats.read import count_chat, find_persons
from modelforge.data.checks.findings import DataFinding, chat_finding
from modelforge.data.formats.csv import detect_delimiter, has_quotes
from modelforge.data.formats.encoding import HEAD_BYTES, encoding_name
from modelforge.data.formats.json import detect_layout, unread_arrays
from modelforge.data.formats.sniff import DataFile
from modelforge.data.formats.streams import COMPRESSION_SUFFIXES
from modelforge.data.formats.workbook import sheet_names

MAX_CHOICES = 200
REWRITE = "Write the rows as JSON Lines in UTF-8."
_JSON_LINES_SUFFIXES = (".jsonl", ".ndjson")
_BREAKS_TO_BLANKS = bytes.maketrans(b"\r\n", b"  ")
_FORMAT_NAMES = {"json": "JSON", "csv": "CSV", "tsv": "TSV", "text": "text", "markdown": "Markdown"}
_FORMAT_NAMES |= {"xlsx": "Excel"} | {chat: f"{name} export" for chat, name in CHAT_NAMES.items()}
_DELIMITER_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}


def describe_format(file: DataFile) -> str:
    """Return how a file is written, such as "CSV, separated by semicolons, Windows-1252"."""
    name = _FORMAT_NAMES.get(file.format, file.format.capitalize())
    if file.format == "json" and file.suffix in _JSON_LINES_SUFFIXES:
        name = "JSON Lines"
    facts = [name]
    if file.format in ("csv", "tsv"):
        facts.append(f"separated by {_DELIMITER_NAMES[detect_delimiter(file)]}")
    if file.is_text:
        facts.append(encoding_name(file.encoding).partition(" (")[0])
    if file.compression:
        facts.append(f"compressed with {file.compression}")
    return ", ".join(facts)


def check_file_format(file: DataFile) -> Iterator[DataFinding]:
    """Yield notes on how the file is written; none of them prevents training."""
    if file.compression and file.path.suffix.lower() not in (*COMPRESSION_SUFFIXES, ".zip"):
        what = f"It is compressed with {file.compression}, but its name does not say so."
        yield _note("undeclared-compression", what, "It is decompressed on reading.", file)
    if not file.is_text:
        return
    yield from check_encoding(file)
    yield from _check_line_ends(file)
    yield from check_unread_rows(file)
    named_lines = file.format == "json" and file.suffix in _JSON_LINES_SUFFIXES
    if named_lines and detect_layout(file) == "array":
        what = "It is a JSON array, not JSON Lines."
        yield _note("json-array", what, "It is read as an array.", file)
    if file.format == "csv" and file.suffix == ".csv":
        delimiter = detect_delimiter(file)
        if delimiter != ",":
            what = f"Its columns are separated by {_DELIMITER_NAMES[delimiter]}, not commas."
            yield _note("other-delimiter", what, "It is read with that delimiter.", file)


def check_chats(files: Sequence[DataFile], name: str) -> Iterator[DataFinding]:
    """Yield one note of how the chat exports of a source are read, if a person is chosen."""
    chats = [file for file in files if file.format in CHAT_NAMES]
    person = chats[0].options.chat_person if chats else None
    if not person:
        return
    counts = ChatCounts()
    for file in chats:
        counts.add(count_chat(file))
    yield chat_finding(counts, person.strip(), name)


def offered_choices(file: DataFile) -> dict[str, list[str]]:
    """Return the persons of a chat export, those who wrote most first, or the sheets of a file."""
    if file.format in CHAT_NAMES:
        persons = find_persons(file).persons
        return {"chat_person": [person for person, _ in persons.most_common(MAX_CHOICES)]}
    return {"sheet": sheet_names(file)[:MAX_CHOICES]} if file.format == "xlsx" else {}


def check_unread_rows(file: DataFile) -> Iterator[DataFinding]:
    """Yield a note if one object has several lists of rows, of which the first is read."""
    names = unread_arrays(file) if file.format == "json" else []
    if names:
        shown = ", ".join(f"“{name[:40]}”" for name in names[:5])
        what = f"It has several lists of rows; only the first is read, not {shown}."
        remedy = "Write each list to a file of its own, for example to evaluate on."
        yield DataFinding("unread-rows", "note", what, remedy, file.name, len(names))


def check_encoding(file: DataFile) -> Iterator[DataFinding]:
    """Yield a note if the text is not UTF-8, or begins with a byte order mark."""
    name = encoding_name(file.encoding)
    if file.is_encoding_guessed:
        line, column = _first_non_ascii(file)
        what = (
            f"It is not UTF-8. It is read as {name} ({file.encoding}), guessed from its bytes; "
            f"the first non-ASCII character is at line {line}, column {column}."
        )
        remedy = "If characters are wrong, set `encoding` of the source, for example cp1251."
        yield _note("guessed-encoding", what, remedy, file, line, column)
    elif file.encoding != "utf-8":
        what = f"Its encoding is {name}, not UTF-8."
        yield _note("other-encoding", what, "It is converted on reading.", file)
    elif file.bom:
        what = "It begins with a byte order mark."
        yield _note("byte-order-mark", what, "The mark is ignored.", file)


def _first_non_ascii(file: DataFile) -> tuple[int, int]:
    with file.open_raw() as stream:
        for number, line in enumerate(iter(lambda: stream.readline(HEAD_BYTES), b""), start=1):
            if not line.isascii():
                column = next(at for at, byte in enumerate(line, start=1) if byte > 127)
                return number, column
    return 1, 1


def _check_line_ends(file: DataFile) -> Iterator[DataFinding]:
    """Yield a note if lines end differently; a line break inside a quoted cell ends no line."""
    with file.open() as stream:
        head = stream.read(HEAD_BYTES)
    lines = _without_breaks_in_cells(file, head)
    crlf, lf = lines.count(b"\r\n"), lines.count(b"\n")
    if not 0 < crlf < lf:
        return
    rarer = rb"\r\n" if crlf * 2 <= lf else rb"(?<!\r)\n"
    first = re.search(rarer, lines)
    line = head.count(b"\n", 0, first.start()) + 1 if first else 1
    what = f"It mixes LF and CRLF line endings; the first that differs is in line {line}."
    yield _note("mixed-line-ends", what, "Both are read.", file, line)


def _without_breaks_in_cells(file: DataFile, head: bytes) -> bytes:
    """Return a text of the same length, in which the line breaks inside quoted cells are blanks."""
    if file.format not in ("csv", "tsv") or b'"' not in head:
        return head
    delimiter = detect_delimiter(file)
    if not has_quotes(head.decode(errors="replace"), delimiter):
        return head
    start = rb"(?<![^\r\n" + re.escape(delimiter.encode()) + rb"])"
    cell = start + rb'"[^"]*+(?:""[^"]*+)*+(?:"|\Z)'
    return re.sub(cell, lambda found: found[0].translate(_BREAKS_TO_BLANKS), head)


def _note(
    code: str, what: str, remedy: str, file: DataFile, line: int = 1, column: int = 1
) -> DataFinding:
    return DataFinding(code, "note", what, remedy, file.name, 1, [(line, column)], REWRITE)
