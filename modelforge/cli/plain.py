"""Text of others made safe for a terminal: what could steer it is shown, not obeyed."""

from __future__ import annotations

import unicodedata


def plain(text: str) -> str:
    """Return `text` on one line, with control and direction marks written as escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(mark) for mark in text)


def _shown(mark: str) -> str:
    if mark == "\n":
        return "⏎"
    # Cc: controls; Cf: direction marks among them; Cs, Zl and Zp: what no terminal can show.
    if unicodedata.category(mark) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return mark.encode("unicode_escape", "surrogatepass").decode("ascii")
    return mark
