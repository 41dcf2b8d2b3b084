"""A prompt format: text with {system}, {instruction}, {input} and {output}, and nothing else.

Nothing is looked up or called: the four names are replaced by text, once, and a doubled brace
stands for itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

NAMES = ("system", "instruction", "input", "output")
_PIECE = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]")


class PromptFormatError(ValueError):
    """A format that cannot be used; `what` and `remedy` are sentences that name the place."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


@lru_cache(maxsize=64)
def parse(text: str, names: tuple[str, ...] = NAMES) -> tuple[str | tuple[str], ...]:
    """Return the text in pieces, each a literal or the name of a placeholder in a tuple."""
    pieces: list[str | tuple[str]] = []
    end = 0
    for found in _PIECE.finditer(text):
        pieces.append(text[end : found.start()])
        pieces.append(_piece(found.group(), text, found.start(), names))
        end = found.end()
    pieces.append(text[end:])
    _check(pieces)
    return tuple(piece for piece in pieces if piece)


def render_parts(text: str, values: Mapping[str, str]) -> tuple[str, str]:
    """Return what comes before {output}, and the output with what follows it, filled in.

    Without an {output} the answer follows the format.
    """
    before: list[str] = []
    after: list[str] = []
    side = before
    for piece in parse(text):
        if isinstance(piece, str):
            side.append(piece)
            continue
        if piece[0] == "output":
            side = after
        side.append(values.get(piece[0], ""))
    if side is before:
        after.append(values["output"])
    return "".join(before), "".join(after)


def has_placeholder(text: str, name: str) -> bool:
    """Say whether the format has this placeholder."""
    return (name,) in parse(text)


def _piece(found: str, text: str, start: int, names: tuple[str, ...]) -> str | tuple[str]:
    if found in ("{{", "}}"):
        return found[0]
    if found in ("{", "}"):
        what = f"A single '{found}' stands {_at(text, start)}."
        raise PromptFormatError(what, f"Write '{found * 2}' for a brace that is text.")
    if found[1:-1] not in names:
        shown = found if len(found) <= 40 else f"{found[:39]}…"
        *first, last = (f"{{{name}}}" for name in names)
        raise PromptFormatError(
            f"{shown} {_at(text, start)} is no placeholder.",
            f"Use {', '.join(first)} and {last}; double the braces of other text.",
        )
    return (found[1:-1],)


def _check(pieces: list[str | tuple[str]]) -> None:
    held = [piece[0] for piece in pieces if isinstance(piece, tuple)]
    if "instruction" not in held:
        raise PromptFormatError("{instruction} is missing.", "Put {instruction} into the format.")
    if held.count("output") > 1:
        raise PromptFormatError("{output} stands there twice.", "Keep the last of them.")
    if "output" in held and held[-1] != "output":
        what = f"{{{held[-1]}}} stands after {{output}}, so it would be learned as an answer."
        raise PromptFormatError(what, "Put {output} last.")


def _at(text: str, start: int) -> str:
    line = text.count("\n", 0, start) + 1
    column = start - (text.rfind("\n", 0, start) + 1) + 1
    return f"at line {line}, column {column}"
