"""How the rows of a source are read, and the form to change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelforge.config.fields import FieldSpec, source_specs
from ui.html import format as fmt
from ui.html.markup import Markup, el, join

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
MESSAGE_KEYS = {"role": "Role of a message", "content": "Content of a message"}
# Fields that say where a source is and how much of it is used.
LOCATION = frozenset({"path", "subset", "split", "samples", "weight"})
MORE = (
    *(
        "encoding",
        "weight",
        "samples",
        "system_prompt_type",
        "system_prompt_field",
        "system_prompt",
    ),
    *("prompt_format", "prompt_format_no_input"),
)
SYSTEM_PROMPTS = {"none": "none", "field": "from a column", "fixed": "the same for all rows"}


@dataclass(frozen=True)
class FileColumns:
    """The columns of a file, and the keys of the objects inside its lists."""

    columns: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


def reading(sources: Sequence[Mapping[str, Any]], reason: str, *, is_usable: bool) -> Markup:
    """Return how the rows are read, who chose it, and a button to change it.

    Args:
        sources: The sources set by the user; empty if everything was detected.
        reason: The sentence that describes the reading.
        is_usable: Whether the rows can be read this way.
    """
    is_mine = any(set(source) - LOCATION for source in sources)
    origin = el("span.origin", "you" if is_mine else "detected")
    undo = el(
        "button.undo#mapping-undo",
        "⟲",
        type="button",
        data_action="mapping-undo",
        aria_label="Undo my column mapping",
        title="Undo my change",
    )
    change = el(
        "button.btn.s#mapping-open",
        "Change",
        type="button",
        data_action="mapping-open",
        aria_expanded="false",
        aria_controls="mapping",
        aria_label="Change how the rows are read",
    )
    return el(
        "div.reading",
        el("p.help", reason, class_=None if is_usable else "bad"),
        origin if is_usable or is_mine else None,
        undo if is_mine else None,
        change,
    )


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
        boxes.append(_select(place, name, specs[name].label, value, _options(found.columns)))
    if kind == "conversation":
        keys = source.get("message_property_mappings") or {}
        for name, label in MESSAGE_KEYS.items():
            value = str(keys.get(name, ""))
            boxes.append(_select(place, f"in:{name}", label, value, _options(found.keys)))
    legend = "How the rows are read"
    if has_several:
        legend = f"{fmt.file_name(source.get('path', ''))}: {legend[:1].lower()}{legend[1:]}"
    return el(
        "fieldset.set",
        el("legend", legend),
        el("div.fields", boxes),
        _more(place, source, found.columns),
        data_source=str(place),
    )


def _more(place: int, source: Mapping[str, Any], columns: Sequence[str]) -> Markup:
    """Return the other fields, folded unless one of them is set."""
    is_set = any(source.get(name) not in (None, "", "none") for name in MORE)
    return el(
        "details.printed",
        el("summary", "Encoding, weight, system prompt and prompt format"),
        el("div.fields", [_field(place, name, source, columns) for name in MORE]),
        open=is_set or None,
    )


def _field(place: int, name: str, source: Mapping[str, Any], columns: Sequence[str]) -> Markup:
    spec, value = source_specs()[name], str(source.get(name) or "")
    if name == "system_prompt_type":
        options = list(SYSTEM_PROMPTS.items())
        return _select(place, name, spec.label, value or "none", options)
    if name.endswith("_field"):
        return _select(place, name, spec.label, value, _options(columns))
    key = f"map-{place}-{name}"
    common = {"id": key, "data_map": name, "aria_describedby": f"{key}-help"}
    control = (
        el("textarea", value, rows=3, **common)
        if spec.multiline
        else el("input", type="text", value=value, placeholder=_default(spec), **common)
    )
    return el(
        "div.f",
        _label(place, name, spec.label, key),
        el("div.in", control, el("span.unit", spec.unit) if spec.unit else None),
        el("small.hint", spec.help, id=f"{key}-help"),
        class_="mine" if value else None,
    )


def _default(spec: FieldSpec) -> str:
    return "all" if spec.default is None else f"{spec.default:g}"


def _options(names: Sequence[str]) -> list[tuple[str, str]]:
    return [("", "not set"), *((name, name) for name in names)]


def _label(place: int, name: str, label: str, key: str) -> Markup:
    return el("div.lab", el("label", label, for_=key, title=f"data.sources[{place}].{name}"))


def _select(
    place: int, name: str, label: str, value: str, options: Sequence[tuple[str, str]]
) -> Markup:
    key = f"map-{place}-{name.replace(':', '-')}"
    listed = list(options)
    if value not in dict(options):
        listed.append((value, f"{value} (not in the file)"))
    shown = [el("option", title, value=known, selected=known == value) for known, title in listed]
    return el(
        "div.f",
        _label(place, name, label, key),
        el("div.in.pick", el("select", shown, id=key, data_map=name)),
        class_="mine" if value not in ("", "auto", "none") else None,
    )
