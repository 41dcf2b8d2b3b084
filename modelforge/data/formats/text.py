"""Read plain text and Markdown: a passage is a row with the one column “text”."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from modelforge.data.formats.encoding import HEAD_BYTES
from modelforge.data.formats.errors import read_error
from modelforge.data.formats.sniff import MAX_ROW_BYTES, DataFile, Row
from modelforge.units import MIB

_HEADING = re.compile(r"#{1,3} ")
_FENCE = re.compile(r" {0,3}(```|~~~)")
_MAX_PASSAGE_CHARS = MAX_ROW_BYTES // 4
# A whole document is given in pieces of at least so many characters.
PIECE_CHARS = MIB
# A line, its number, and whether a passage begins with it.
_MarkedLine = tuple[int, str, bool]


def read_text(file: DataFile) -> Iterator[Row]:
    """Yield the passages of a text.

    Markdown is split before headings of levels 1 to 3. Plain text is split at blank lines; without
    blank lines, every line is a row.
    """
    with file.open() as stream:
        lines = _decoded_lines(file, stream)
        if file.format == "markdown":
            yield from _join_passages(_mark_sections(lines))
        elif _has_paragraphs(file):
            yield from _join_passages(_mark_paragraphs(lines))
        else:
            for number, line in lines:
                if line.strip():
                    yield Row(number, {"text": line.rstrip("\r\n")})


def read_document(file: DataFile) -> Iterator[str]:
    """Yield a text as it is, in pieces of whole lines; joined they are the text."""
    lines: list[str] = []
    size = 0
    with file.open() as stream:
        for _number, line in _decoded_lines(file, stream):
            lines.append(line)
            size += len(line)
            if size >= PIECE_CHARS:
                yield "".join(lines)
                lines, size = [], 0
    if lines:
        yield "".join(lines)


def _has_paragraphs(file: DataFile) -> bool:
    with file.open() as stream:
        head = stream.read(HEAD_BYTES).replace(b"\r\n", b"\n").strip()
    return re.search(rb"\n[ \t]*\n", head) is not None


def _decoded_lines(file: DataFile, stream: BinaryIO) -> Iterator[tuple[int, str]]:
    number = 0
    while line := stream.readline(MAX_ROW_BYTES):
        number += 1
        if len(line) >= MAX_ROW_BYTES:
            limit = MAX_ROW_BYTES // MIB
            what = f"is longer than {limit} MiB, the maximum."
            remedy = "Split the text into lines."
            raise read_error(file.name, what, remedy, code="row-too-long", line=number)
        # An invalid byte becomes U+FFFD, which the data checks report.
        yield number, line.decode(errors="replace")


def _mark_paragraphs(lines: Iterator[tuple[int, str]]) -> Iterator[_MarkedLine]:
    after_blank = True
    for number, line in lines:
        is_blank = not line.strip()
        yield number, line, after_blank and not is_blank
        after_blank = is_blank


def _mark_sections(lines: Iterator[tuple[int, str]]) -> Iterator[_MarkedLine]:
    in_code = False
    for number, line in lines:
        if _FENCE.match(line):
            in_code = not in_code
        yield number, line, not in_code and _HEADING.match(line) is not None


def _join_passages(lines: Iterator[_MarkedLine]) -> Iterator[Row]:
    """Join lines to rows; a row ends before a marked line, or at the maximum length."""
    passage: list[str] = []
    first_line = size = 0
    for number, line, begins in lines:
        if passage and (begins or size + len(line) > _MAX_PASSAGE_CHARS):
            yield Row(first_line, {"text": "".join(passage).strip()})
            passage, size = [], 0
        if not passage and not line.strip():
            continue
        if not passage:
            first_line = number
        passage.append(line)
        size += len(line)
    if passage:
        yield Row(first_line, {"text": "".join(passage).strip()})
