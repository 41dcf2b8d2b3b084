"""Render the macros of the Jinja2 templates in assets/pages/ui, which escape all values."""

from __future__ import annotations

import re
from functools import cache

from jinja2 import Environment, FunctionLoader, StrictUndefined

from modelforge.paths import resource_folder
from ui.html import components
from ui.html import format as fmt
from ui.html.markup import Markup, attrs, with_code

# What templates call without an import.
COMPONENTS = (
    "card", "chart_card", "chip", "facts", "field", "placeholder", "progress", "row", "state_chip",
)  # fmt: skip


def render(template: str, macro: str, /, *args: object, **values: object) -> Markup:
    """Return what the macro of a template makes of these values."""
    module = _environment().get_template(f"{template}.html").module
    return Markup(getattr(module, macro)(*args, **values))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.globals |= {name: getattr(components, name) for name in COMPONENTS}
    environment.globals |= {"attrs": attrs, "fmt": fmt}
    environment.filters["with_code"] = with_code
    return environment


def _source(name: str) -> str:
    """Return a template without the line breaks beside tags, which would be spaces on the page."""
    text = (resource_folder("assets") / "pages" / "ui" / name).read_text("utf-8")
    return re.sub(r"(?<=[>}])\s*\n\s*|\s*\n\s*(?=[<{])", "", text)
