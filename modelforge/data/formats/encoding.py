"""Which encoding a text has: told by its mark, its zero bytes, or what its high bytes spell."""

from __future__ import annotations

import codecs
import csv
import re
from typing import NamedTuple

from modelforge.data.formats.errors import read_error
from modelforge.units import MIB

LATIN = ("cp1252", "latin-1")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WHOLE = MIB  # a shorter head is the whole file, which ends where its text does
_MULTIBYTE = re.compile(rb"[\xc2-\xf4][\x80-\xbf]+")
_HIGH = re.compile(rb"[\x80-\xff]")
_COLUMNS = frozenset(
    (
        *("input", "output", "prompt", "completion", "instruction", "question", "answer"),
        *("answers", "text", "messages", "document", "article", "summary", "chosen"),
        *("rejected", "context", "label", "response", "system"),
    )
)


class Encoding(NamedTuple):
    """An encoding by Python's name, and how many bytes of mark stand before the text."""

    name: str
    bom: int = 0


def detect_encoding(name: str, head: bytes) -> Encoding:
    """Return the encoding of a text that begins with `head`; raises DataError for zero bytes."""
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return Encoding(encoding, len(bom))
    if b"\0" not in head:
        return Encoding("utf-8" if _is_utf8(head) else _latin(head))
    # UTF-16 without a mark: in mostly Latin text every second byte is zero.
    for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if head[offset::2].count(0) > 0.3 * (len(head) / 2) and head[1 - offset :: 2].count(0) == 0:
            return Encoding(encoding)
    at = head.index(b"\0")
    line = head.count(b"\n", 0, at) + 1
    column = at - head.rfind(b"\n", 0, at)
    remedy = "Remove the zero bytes (repairing does it), or export the file again."
    what = "holds a zero byte, which text never has."
    raise read_error(name, what, remedy, code="zero-bytes", line=line, column=column)


def is_table_head(text: str) -> bool:
    """Whether the first line of a .txt names columns that are known, so that it is a table."""
    first = text.split("\n", 1)[0]
    for mark in ",;\t|":
        cells = [cell.strip().lower() for cell in next(csv.reader([first], delimiter=mark), [])]
        if len(cells) > 1 and _COLUMNS.intersection(cells):
            return True
    return False


def _is_utf8(head: bytes) -> bool:
    """Whether it is UTF-8, or UTF-8 with some broken bytes; a cut at the end does not count."""
    try:
        head.decode()
        return True
    except UnicodeDecodeError as error:
        cut = len(head) >= _WHOLE and error.start >= len(head) - 3
        if cut and "unexpected end" in error.reason:
            return True
    spelt = sum(len(found) for found in _MULTIBYTE.findall(head))
    return 2 * spelt > len(_HIGH.findall(head))


def _latin(head: bytes) -> str:
    try:
        head.decode("cp1252")
        return LATIN[0]
    except UnicodeDecodeError:
        return LATIN[1]
