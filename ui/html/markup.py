"""HTML that is escaped unless somebody says otherwise: where foreign text meets markup."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

_NAME = re.compile(r"[.#]?[^.#]+")
_VOID = frozenset({"input", "br", "hr", "img", "path", "circle", "line", "link", "meta"})

Child = object


class Safe(str):
    """Text that is HTML already; everything else is escaped when it enters an element."""

    __slots__ = ()


def el(name: str, /, *children: Child, **attributes: object) -> Safe:
    """Return an element. `name` may carry a class and an id: `div.card.open#plan`.

    Children are escaped unless they are `Safe`; None and False vanish, lists are flattened.
    Attributes: True stands bare, None and False vanish, underscores become dashes.
    """
    tag, given = _read_name(name)
    extra = attributes.pop("class_", None)
    if extra:
        given["class"] = f"{given.get('class', '')} {extra}".strip()
    pairs = {**given, **{key.rstrip("_").replace("_", "-"): v for key, v in attributes.items()}}
    opening = "".join([f"<{tag}", *(_attribute(key, value) for key, value in pairs.items()), ">"])
    return Safe(opening if tag in _VOID else f"{opening}{join(children)}</{tag}>")


def join(children: Iterable[Child]) -> Safe:
    """Return children side by side, each escaped unless it is `Safe`."""
    return Safe("".join(_child(child) for child in children))


def trusted(text: str) -> Safe:
    """Mark text of our own as HTML. Never for anything that came from outside."""
    return Safe(text)


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
    if isinstance(child, Safe):
        return child
    if isinstance(child, (list, tuple)):
        return join(child)
    return escape(str(child))
