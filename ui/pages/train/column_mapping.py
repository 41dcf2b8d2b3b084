"""How the rows of a source are read, and the form to change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelforge.config.fields import source_specs
from ui.html import format as fmt
from ui.html.markup import Markup, join
from ui.html.templates import render

TYPES = {
    "auto": "detect from the columns",
    "text": "plain text",
    "instruction": "a question and its answer",
    "conversation": "a conversation",
    "preference": "a chosen and a rejected answer",
}
COLUMNS = {
    "auto": (),
    "text": ("text_field",),
    "instruction": ("instruction_field", "input_field", "output_field", "system_field"),
    "conversation": ("messages_field", "system_field", "tools_field"),
    "preference": ("prompt_field", "chosen_field", "rejected_field"),
}
# What the columns of questions with answers are for.
LABELS = {
    "instruction_field": "Question: what is asked",
    "input_field": "Input: more text of the question, if any",
    "output_field": "Answer: what is learned",
}
MESSAGE_KEYS = {"role": "Role of a message", "content": "Content of a message"}
# Fields that say where a source is and how much of it is used.
LOCATION = frozenset({"path", "subset", "split", "samples", "weight"})
MORE = (
    *("encoding", "weight", "samples", "system_prompt_type", "system_prompt_field"),
    *("system_prompt", "prompt_format", "prompt_format_no_input"),
)
SYSTEM_PROMPTS = {"none": "none", "field": "from a column", "fixed": "the same for all rows"}


@dataclass(frozen=True)
class FileColumns:
    """The columns of a file, the keys of the objects inside its lists, and its first rows."""

    columns: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def reading(sources: Sequence[Mapping[str, Any]], reason: str, *, is_usable: bool) -> Markup:
    """Return how the rows are read, who chose it, and a button to change it.

    Args:
        sources: The sources set by the user; empty if everything was detected.
        reason: The sentence that describes the reading.
        is_usable: Whether the rows can be read this way.
    """
    is_mine = any(set(source) - LOCATION for source in sources)
    return render("form", "reading", reason, is_usable, is_mine)


def editor(sources: Sequence[Mapping[str, Any]], columns: Sequence[FileColumns]) -> Markup:
    """Return the form for every source: the row type, and the column of each part."""
    has_several = len(sources) > 1
    return join(
        [
            _source(place, source, found, has_several=has_several)
            for place, (source, found) in enumerate(zip(sources, columns, strict=True))
        ]
    )


def _source(
    place: int, source: Mapping[str, Any], found: FileColumns, *, has_several: bool
) -> Markup:
    kind = str(source.get("type") or "auto")
    specs = source_specs()
    boxes = [_select(place, "type", "Each row is", kind, list(TYPES.items()))]
    for name in COLUMNS.get(kind, ()):
        value = str(source.get(name) or "")
        label = LABELS.get(name, specs[name].label)
        boxes.append(_select(place, name, label, value, _options(found.columns)))
    if kind == "conversation":
        keys = source.get("message_property_mappings") or {}
        for name, label in MESSAGE_KEYS.items():
            value = str(keys.get(name, ""))
            boxes.append(_select(place, f"in:{name}", label, value, _options(found.keys)))
    legend = "How the rows are read"
    if has_several:
        legend = f"{fmt.file_name(source.get('path', ''))}: {legend[:1].lower()}{legend[1:]}"
    more = [_field(place, name, source, found.columns) for name in MORE]
    is_open = any(source.get(name) not in (None, "", "none") for name in MORE)
    form = render("form", "source", place, legend, boxes, more, is_open)
    # The rows as they are in the file, which nothing else shows until they can be read.
    if not found.rows:
        return form
    return join([form, render("data", "rows", found.columns[: len(found.rows[0])], found.rows)])


def _field(place: int, name: str, source: Mapping[str, Any], columns: Sequence[str]) -> Markup:
    spec, value = source_specs()[name], str(source.get(name) or "")
    if name == "system_prompt_type":
        options = list(SYSTEM_PROMPTS.items())
        return _select(place, name, spec.label, value or "none", options)
    if name.endswith("_field"):
        return _select(place, name, spec.label, value, _options(columns))
    return render("form", "source_text", place, name, spec, value)


def _options(names: Sequence[str]) -> list[tuple[str, str]]:
    return [("", "not set"), *((name, name) for name in names)]


def _select(
    place: int, name: str, label: str, value: str, options: Sequence[tuple[str, str]]
) -> Markup:
    shown = list(options)
    if value not in dict(options):
        shown.append((value, f"{value} (not in the file)"))
    return render("form", "source_select", place, name, label, value, shown)
