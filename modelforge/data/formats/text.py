"""Rows of plain text and of Markdown: a passage is a row with the one column “text”."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from modelforge.data.formats.sniff import HEAD_BYTES, MAX_ROW_BYTES, DataFile, Row, read_error

_HEADING = re.compile(r"#{1,3} ")
_FENCE = re.compile(r" {0,3}(```|~~~)")


def read_text(source: DataFile) -> Iterator[Row]:
    """Yield the passages of a text.

    Markdown is parted before its headings (levels 1 to 3). Plain text is parted at blank lines;
    where there are none, every line is a row.
    """
    with source.open() as stream:
        lines = _decoded(source, stream)
        if source.format == "markdown":
            yield from _gathered(_sections(lines))
        elif _has_paragraphs(source):
            yield from _gathered(_paragraphs(lines))
        else:
            yield from (
                Row(number, {"text": line.rstrip("\r\n")}) for number, line in lines if line.strip()
            )


def _has_paragraphs(source: DataFile) -> bool:
    with source.open() as stream:
        head = stream.read(HEAD_BYTES).replace(b"\r\n", b"\n").strip()
    return re.search(rb"\n[ \t]*\n", head) is not None


def _decoded(source: DataFile, stream: BinaryIO) -> Iterator[tuple[int, str]]:
    number = 0
    while line := stream.readline(MAX_ROW_BYTES):
        number += 1
        if len(line) >= MAX_ROW_BYTES:
            what = "is longer than 16 MiB, the longest allowed."
            raise read_error(
                source.name, what, "Break the text into lines.", code="row-too-long", line=number
            )
        # A broken byte becomes U+FFFD, which the doctor finds and names.
        yield number, line.decode(errors="replace")


def _paragraphs(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str, bool]]:
    after_blank = True
    for number, line in lines:
        blank = not line.strip()
        yield number, line, after_blank and not blank
        after_blank = blank


def _sections(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str, bool]]:
    fenced = False
    for number, line in lines:
        if _FENCE.match(line):
            fenced = not fenced
        yield number, line, not fenced and _HEADING.match(line) is not None


def _gathered(marked: Iterator[tuple[int, str, bool]]) -> Iterator[Row]:
    """Join lines to rows; a row ends before a line that opens one, or at the longest allowed."""
    begins, size = 1, 0
    held: list[str] = []
    for number, line, opens in marked:
        if held and (opens or size + len(line) > MAX_ROW_BYTES // 4):
            if text := "".join(held).strip():
                yield Row(begins, {"text": text})
            held, size = [], 0
        if not held:
            begins = number
        if held or line.strip():
            held.append(line)
            size += len(line)
    if text := "".join(held).strip():
        yield Row(begins, {"text": text})
