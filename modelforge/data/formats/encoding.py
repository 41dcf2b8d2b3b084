"""Detect the encoding of a text file: byte order mark, UTF-16 zero bytes, UTF-8, else a guess."""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

from modelforge.data.formats.errors import read_error
from modelforge.units import KIB, MIB

HEAD_BYTES = MIB
# Legacy encodings that are guessed, by Python's names.
LEGACY_ENCODINGS = {
    "cp932": "Shift-JIS",
    "euc_jp": "EUC-JP",
    "gb18030": "GB18030",
    "big5": "Big5",
    "euc_kr": "EUC-KR",
    "koi8_r": "KOI8-R",
    "cp1250": "Windows-1250 (Central European)",
    "cp1251": "Windows-1251 (Cyrillic)",
    "cp1252": "Windows-1252 (Western European)",
    "cp1253": "Windows-1253 (Greek)",
    "cp1254": "Windows-1254 (Turkish)",
    "cp1255": "Windows-1255 (Hebrew)",
    "cp1256": "Windows-1256 (Arabic)",
    "cp1257": "Windows-1257 (Baltic)",
    "cp1258": "Windows-1258 (Vietnamese)",
    "latin-1": "Latin-1",
}
# The detector sees at most this much text, of lines with non-ASCII bytes.
_SAMPLE_BYTES = 64 * KIB
# Codes that text does not have; zero bytes are also those of UTF-16.
_CONTROL_CODES = bytes([*range(1, 9), *range(14, 27), *range(28, 32), 127])
_MAX_CONTROL_SHARE_OF_TEXT = 0.03
_MIN_CONTROL_CODES = 8
# With fewer non-ASCII bytes every guess is arbitrary, and Windows-1252 is most common.
_MIN_NON_ASCII_BYTES = 8
_WESTERN = "cp1252"
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_UTF8_SEQUENCE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)
_NON_ASCII = re.compile(rb"[\x80-\xff]")
_MAX_ZERO_SHARE_OF_TEXT = 0.3


class Encoding(NamedTuple):
    """An encoding by Python's name, and the number of bytes of its byte order mark."""

    name: str
    bom: int = 0
    is_guess: bool = False


def encoding_name(name: str) -> str:
    """Return the usual name of an encoding."""
    return LEGACY_ENCODINGS.get(name, name.upper())


def given_encoding(file_name: str, name: str, head: bytes) -> Encoding:
    """Return the encoding that the user set, for a text that begins with `head`."""
    try:
        name = codecs.lookup(name).name
    except LookupError as error:
        what, remedy = f"has the unknown encoding {name[:40]!r}.", "Use a name such as cp1251."
        raise read_error(file_name, what, remedy, code="bad-encoding") from error
    bom = next((mark for mark, marked in _BOMS if marked == name and head.startswith(mark)), b"")
    return Encoding(name, len(bom))


def detect_encoding(file_name: str, head: bytes) -> Encoding:
    """Return the encoding of a text that begins with `head`; raises ReadError for zero bytes."""
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return Encoding(encoding, len(bom))
    if b"\0" not in head:
        _refuse_binary(file_name, head)
        return Encoding("utf-8") if _is_utf8(head) else Encoding(_guess(head), is_guess=True)
    # In UTF-16 without a mark every second byte of mostly Latin text is zero.
    for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros = head[offset::2].count(0)
        if zeros > _MAX_ZERO_SHARE_OF_TEXT * len(head) / 2 and head[1 - offset :: 2].count(0) == 0:
            return Encoding(encoding)
    _refuse_binary(file_name, head)
    at = head.index(b"\0")
    raise read_error(
        file_name,
        "contains a zero byte, which is not valid in text.",
        "Remove the zero bytes (a repair does it), or export the file again.",
        code="zero-bytes",
        line=head.count(b"\n", 0, at) + 1,
        column=at - head.rfind(b"\n", 0, at),
    )


def _refuse_binary(file_name: str, head: bytes) -> None:
    """Raise ReadError for bytes that are not text: images and archives hold many control codes."""
    codes = len(head) - len(head.translate(None, _CONTROL_CODES))
    if codes > _MAX_CONTROL_SHARE_OF_TEXT * len(head) + _MIN_CONTROL_CODES:
        what, remedy = "is not a text file.", "Save the rows as CSV or JSON Lines."
        raise read_error(file_name, what, remedy, code="unsupported-format")


def _is_utf8(head: bytes) -> bool:
    """Return whether it is UTF-8, possibly with some invalid bytes or cut off at the end."""
    try:
        head.decode()
        return True
    except UnicodeDecodeError as error:
        is_cut_off = len(head) >= HEAD_BYTES and error.start >= len(head) - 3
        if is_cut_off and "unexpected end" in error.reason:
            return True
    valid = sum(len(sequence) for sequence in _UTF8_SEQUENCE.findall(head))
    return 2 * valid > len(_NON_ASCII.findall(head))


def _guess(head: bytes) -> str:
    """Return the most likely legacy encoding of a text."""
    lines = [line for line in head.splitlines(keepends=True) if not line.isascii()]
    sample = b"".join(lines)
    if len(sample) > _SAMPLE_BYTES:
        # These bytes are never part of a longer character, so no character is cut.
        end = max(sample.rfind(mark, 0, _SAMPLE_BYTES) for mark in (b"\n", b'"', b",", b" "))
        sample = sample[:end]
    if len(_NON_ASCII.findall(sample)) >= _MIN_NON_ASCII_BYTES:
        # Imported here: 4 MiB that a server without such files does not need.
        from charset_normalizer import from_bytes

        best = from_bytes(sample, cp_isolation=list(LEGACY_ENCODINGS)).best()
        if best is not None and _decodes(head, best.encoding):
            return best.encoding
    return _WESTERN if _decodes(head, _WESTERN) else "latin-1"


def _decodes(head: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)("strict").decode(head)
    except UnicodeDecodeError:
        return False
    return True
