"""What can be odd about the texts of a row: each sign is found in far less time than reading."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator

# Bytes that say nothing; what is left of a text after them is short and quickly looked through.
# The first four control characters part the turns of a print, and are looked for elsewhere.
_CONTROLS = bytes([*range(4, 9), 11, 12, *range(14, 32), 127])
_DIGIT = b"0123456789"
_TELLING = _CONTROLS + _DIGIT + b"@<&+_-A"
_PLAIN = bytes(each for each in range(256) if each not in _TELLING)
_NO_CONTROL = bytes(each for each in range(256) if each not in _CONTROLS)
_NO_DIGIT = bytes(each for each in range(256) if each not in _DIGIT)
_FEWEST_DIGITS = 8
# The last of the marks that part the turns of a print.
PARTING = "\x03"
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_DIGITS = bytes.maketrans(b"123456789 .-/()", b"000000000------")

HTML = re.compile(
    r"</?(?:p|div|br|span|a|table|tr|td|th|ul|ol|li|b|i|u|em|strong|font|img|h[1-6]|script|style"
    r"|iframe|blockquote|pre|code)(?:\s[^<>]{0,400})?/?>|&(?:nbsp|amp|lt|gt|quot|#\d{1,6});",
    re.IGNORECASE,
)
EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
PHONE = re.compile(
    r"\+\d{1,3}[ .\-/()]{0,2}(?:\d[ .\-/()]{0,2}){7,12}(?!\d)"
    r"|(?<![\d-])\(?\d{3}\)?[ .-]{1,2}\d{3}[.-]\d{4}(?![\d-])"
)
SECRET = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|hf_[A-Za-z0-9]{30,}"
    r"|AKIA[A-Z0-9]{16}|AIza[\w-]{35}|xox[abps]-[\w-]{10,})"
    r"|-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----"
)
_UNDERSCORED = ("hf_", "_pat_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_")
_UNPARTED = dict.fromkeys(range(4))
EMPTY_WORDS = frozenset(
    ["-", "--", "...", "…", "?", ".", "n/a", "na", "none", "null", "nan", "nil", "todo", "tbd"]
)


def check_text(text: str, encoded: bytes) -> Iterator[str]:
    """Yield the codes of what is odd about a print; `encoded` is the same text as UTF-8."""
    left = encoded.translate(None, _PLAIN)
    if left:
        yield from _told_by(left, text, encoded)
    if len(encoded) != len(text):
        if "\ufffd" in text:
            yield "replaced-characters"
        if b"\xc2" in encoded and CONTROL.search(text.translate(_UNPARTED)):
            yield "control-characters"


def _told_by(left: bytes, text: str, encoded: bytes) -> Iterator[str]:
    if left.translate(None, _NO_CONTROL):
        yield "control-characters"
    if b"@" in left and EMAIL.search(text):
        yield "e-mail"
    if (b"<" in left or b"&" in left) and HTML.search(text):
        yield "html"
    if len(left) >= _FEWEST_DIGITS and len(left.translate(None, _NO_DIGIT)) >= _FEWEST_DIGITS:
        likely = b"+" in left or b"000-0000" in encoded.translate(_DIGITS)
        if likely and PHONE.search(text):
            yield "phone-number"
    if _may_hold_secret(left, text) and SECRET.search(text):
        yield "secret-key"


def _may_hold_secret(left: bytes, text: str) -> bool:
    if b"-" in left and ("sk-" in text or "xox" in text or "-----BEGIN " in text):
        return True
    if b"_" in left and any(mark in text for mark in _UNDERSCORED):
        return True
    return b"A" in left and ("AKIA" in text or "AIza" in text)


def is_near_empty(answer: str) -> bool:
    """Whether an answer says next to nothing: a lone mark, “n/a”, “TODO” and the like."""
    if len(answer) > 12:
        return False
    word = answer.strip().lower()
    return word in EMPTY_WORDS or not any(mark.isalnum() for mark in word)


_ASCII = re.compile(r"[\x00-\x7f]+")
# Where a block of letters begins, and whose it is; "" is nobody's.
_BLOCKS = (
    (0x0000, "Latin"), (0x0250, ""), (0x0370, "Greek"), (0x0400, "Cyrillic"), (0x0530, "Armenian"),
    (0x0590, "Hebrew"), (0x0600, "Arabic"), (0x0900, "Devanagari"), (0x0980, "Bengali"),
    (0x0A00, "other"), (0x0B80, "Tamil"), (0x0C00, "other"), (0x0E00, "Thai"), (0x0E80, "other"),
    (0x10A0, "Georgian"), (0x1100, "Hangul"), (0x1200, "other"), (0x1E00, "Latin"),
    (0x1F00, "Greek"), (0x2000, ""), (0x2E80, "Han"), (0x3000, ""), (0x3040, "Kana"),
    (0x3100, "Han"), (0x3130, "Hangul"), (0x3190, "Han"), (0xA000, "other"), (0xAC00, "Hangul"),
    (0xD7B0, ""), (0xF900, "Han"), (0xFB00, ""), (0xFB50, "Arabic"), (0xFE00, ""),
    (0xFE70, "Arabic"), (0xFF00, ""), (0x20000, "Han"), (0x30000, ""),
)  # fmt: skip
_STARTS = [start for start, _ in _BLOCKS]
_NAMES = [name for _, name in _BLOCKS]


def detect_script(text: str) -> str:
    """Return the script of most letters near the start: “Latin”, “Cyrillic”, “Han” …, or “none”."""
    head = text[:240]
    if head.isascii():
        return "Latin" if any(map(str.isalpha, head)) else "none"
    high = _ASCII.sub("", head)[:32]
    counts = Counter(_NAMES[bisect_right(_STARTS, ord(mark)) - 1] for mark in high)
    del counts[""]
    if "Kana" in counts:  # Japanese mixes it with Han
        return "Kana"
    low = sum(map(str.isalpha, head)) - sum(map(str.isalpha, high)) if len(high) < 32 else 0
    counts["Latin"] += low
    script, count = counts.most_common(1)[0]
    return script if count else "none"
