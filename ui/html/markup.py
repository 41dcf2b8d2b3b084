"""Build HTML elements in Python; text and attributes are escaped unless they are `Markup`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from markupsafe import Markup, escape

__all__ = ["EMPTY", "Markup", "attrs", "el", "join", "with_code"]

_NAME = re.compile(r"[.#]?[^.#]+")
_CODE = re.compile(r"`([^`]+)`")
_VOID = frozenset({"input", "br", "hr", "img", "path", "circle", "line", "link", "meta"})

EMPTY = Markup()
Child = object


def el(name: str, /, *children: Child, **attributes: object) -> Markup:
    """Return an element. `name` may carry classes and an id: `div.card.open#plan`.

    Lists of children are flattened; None and False are left out. An attribute that is True has no
    value, None and False leave it out; underscores in its name become dashes.
    """
    tag, given = _read_name(name)
    extra = attributes.pop("class_", None)
    if extra:
        given["class"] = f"{given.get('class', '')} {extra}".strip()
    opening = f"<{tag}{attrs(**{**given, **attributes})}>"
    return Markup(opening if tag in _VOID else f"{opening}{join(children)}</{tag}>")


def attrs(**attributes: object) -> Markup:
    """Return the attributes of an element, each with a space before it; rules as in `el`."""
    pairs = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    return Markup("".join(_attribute(key, value) for key, value in pairs))


def join(children: Iterable[Child]) -> Markup:
    """Return children side by side, each escaped unless it is `Markup`."""
    return Markup("".join(_child(child) for child in children))


def with_code(text: Child) -> Markup:
    """Return escaped text in which commands between backticks are code; `Markup` stays as it is."""
    if isinstance(text, Markup) or not isinstance(text, str):
        return join([text])
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def _read_name(name: str) -> tuple[str, dict[str, object]]:
    tag, classes, given = "div", [], {}
    for part in _NAME.findall(name):
        if part[0] == ".":
            classes.append(part[1:])
        elif part[0] == "#":
            given["id"] = part[1:]
        else:
            tag = part
    return tag, {**({"class": " ".join(classes)} if classes else {}), **given}


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    return f" {key}" if value is True else f' {key}="{escape(str(value))}"'


def _child(child: Child) -> str:
    if child is None or child is False:
        return ""
    if isinstance(child, (list, tuple)):
        return join(child)
    return escape(child)
