"""Prompt templates: text with {system}, {instruction}, {input} and {output}.

The placeholders are replaced by text; nothing is evaluated. A doubled brace stands for a brace.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

NAMES = ("system", "instruction", "input", "output")
_TOKEN = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]")


class PromptFormatError(ValueError):
    """An invalid template; `what` and `remedy` are sentences that name the position."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


@lru_cache(maxsize=64)
def parse(text: str, names: tuple[str, ...] = NAMES) -> tuple[str | tuple[str], ...]:
    """Return the parts of the template: literal text, or the name of a placeholder in a tuple."""
    parts: list[str | tuple[str]] = []
    end = 0
    for match in _TOKEN.finditer(text):
        parts.append(text[end : match.start()])
        parts.append(_part(match.group(), text, match.start(), names))
        end = match.end()
    parts.append(text[end:])
    _check(parts)
    return tuple(part for part in parts if part)


def render_parts(text: str, values: Mapping[str, str]) -> tuple[str, str]:
    """Return the rendered prompt before {output}, and the completion from {output} on.

    Without an {output} the completion follows the template.
    """
    prompt: list[str] = []
    completion: list[str] = []
    target = prompt
    for part in parse(text):
        if isinstance(part, str):
            target.append(part)
            continue
        if part[0] == "output":
            target = completion
        target.append(values.get(part[0], ""))
    if target is prompt:
        completion.append(values["output"])
    return "".join(prompt), "".join(completion)


def has_placeholder(text: str, name: str) -> bool:
    """Return whether the template contains this placeholder."""
    return (name,) in parse(text)


def _part(token: str, text: str, start: int, names: tuple[str, ...]) -> str | tuple[str]:
    if token in ("{{", "}}"):
        return token[0]
    if token in ("{", "}"):
        what = f"Unmatched '{token}' {_position(text, start)}."
        raise PromptFormatError(what, f"Write '{token * 2}' for a literal brace.")
    if token[1:-1] not in names:
        shown = token if len(token) <= 40 else f"{token[:39]}…"
        *first, last = (f"{{{name}}}" for name in names)
        raise PromptFormatError(
            f"{shown} {_position(text, start)} is not a placeholder.",
            f"Use {', '.join(first)} and {last}; double the braces of other text.",
        )
    return (token[1:-1],)


def _check(parts: list[str | tuple[str]]) -> None:
    placeholders = [part[0] for part in parts if isinstance(part, tuple)]
    if "instruction" not in placeholders:
        raise PromptFormatError("{instruction} is missing.", "Add {instruction} to the template.")
    if placeholders.count("output") > 1:
        raise PromptFormatError("{output} occurs twice.", "Keep the last one.")
    if "output" in placeholders and placeholders[-1] != "output":
        what = f"{{{placeholders[-1]}}} follows {{output}}, so it would be trained as completion."
        raise PromptFormatError(what, "Put {output} last.")


def _position(text: str, start: int) -> str:
    line = text.count("\n", 0, start) + 1
    column = start - (text.rfind("\n", 0, start) + 1) + 1
    return f"at line {line}, column {column}"
