"""In which script a text is written, told by a few of its letters."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter

_PLAIN = re.compile(r"[\x00-\x7f]+")
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


def script_of(text: str) -> str:
    """Return the script of most letters near the start: “Latin”, “Cyrillic”, “Han” …, or “none”."""
    head = text[:240]
    if head.isascii():
        return "Latin" if any(map(str.isalpha, head)) else "none"
    high = _PLAIN.sub("", head)[:32]
    counts = Counter(_NAMES[bisect_right(_STARTS, ord(mark)) - 1] for mark in high)
    del counts[""]
    if "Kana" in counts:  # Japanese mixes it with Han
        return "Kana"
    low = sum(map(str.isalpha, head)) - sum(map(str.isalpha, high)) if len(high) < 32 else 0
    counts["Latin"] += low
    script, count = counts.most_common(1)[0]
    return script if count else "none"
