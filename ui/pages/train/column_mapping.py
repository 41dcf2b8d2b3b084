"""How rows are read: the reading that was found, and the form to choose another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelforge.config.fields import FieldSpec, source_specs
from modelforge.config.schema.base import SettingInfo
from modelforge.config.schema.data import Source
from ui.html.markup import Safe, el, join

TYPES = {
    "auto": "found out from the columns",
    "text": "plain text",
    "instruction": "a question and its answer",
    "conversation": "a conversation",
    "preference": "a better and a worse answer",
}
COLUMNS = {
    "auto": (),
    "text": ("text_field",),
    "instruction": ("instruction_field", "input_field", "output_field", "system_field"),
    "conversation": ("messages_field", "system_field", "tools_field"),
    "preference": ("prompt_field", "chosen_field", "rejected_field"),
}
PROPERTIES = {"role": "Who speaks", "content": "What is said"}
OWN = frozenset({"path", "subset", "split", "samples", "weight"})
MORE = (
    *("weight", "samples", "system_prompt_type", "system_prompt_field", "system_prompt"),
    *("prompt_format", "prompt_format_no_input"),
)
SYSTEM = {"none": "none", "field": "from a column", "fixed": "one text for all"}


def reading(said: Sequence[Mapping[str, Any]], reason: str, *, usable: bool) -> Safe:
    """Return the sentence that says how rows are read, whose choice it is, and the way to change.

    `said` are the sources in the person's own answers; none of them where all was found out.
    """
    mine = any(set(one) - OWN for one in said)
    return el(
        "div.reading",
        el("p.help", reason, class_=None if usable else "bad"),
        el("span.origin", "you" if mine else "found out") if usable or mine else None,
        _undo() if mine else None,
        el(
            "button.btn.s#map-open",
            "Read it differently",
            type="button",
            data_do="map-open",
            aria_expanded="false",
            aria_controls="map",
        ),
    )


def editor(
    sources: Sequence[Mapping[str, Any]], columns: Sequence[Mapping[str, Sequence[str]]]
) -> Safe:
    """Return the form for every source: what a row is, and which column holds which part.

    `columns` holds, per source, the file's columns and the names inside their messages.
    """
    several = len(sources) > 1
    return join(
        [
            _source(place, source, columns[place], several=several)
            for place, source in enumerate(sources)
        ]
    )


def label(name: str) -> str:
    """Return what a field of a source is called, as the schema says it."""
    found = Source.model_fields[name].metadata
    return next(one.label for one in found if isinstance(one, SettingInfo))


def _source(
    place: int,
    source: Mapping[str, Any],
    columns: Mapping[str, Sequence[str]],
    *,
    several: bool,
) -> Safe:
    kind = str(source.get("type") or "auto")
    names = COLUMNS.get(kind, ())
    inner = source.get("message_property_mappings") or {}
    fields = [
        _pick(place, "type", "A row is", kind, list(TYPES.items())),
        *(
            _pick(place, name, label(name), str(source.get(name) or ""), _named(columns["columns"]))
            for name in names
        ),
    ]
    if kind == "conversation":
        fields += [
            _pick(place, f"in:{name}", told, str(inner.get(name, "")), _named(columns["inner"]))
            for name, told in PROPERTIES.items()
        ]
    title = str(source.get("path", "")).replace("\\", "/").rsplit("/", 1)[-1]
    return el(
        "fieldset.set",
        el("legend", f"{title}: how its rows are read" if several else "How rows are read"),
        el("div.fields", fields),
        _more(place, source, columns["columns"]),
        data_source=str(place),
    )


def _more(place: int, source: Mapping[str, Any], columns: Sequence[str]) -> Safe:
    """Return the rest of what may be said of a source, folded away until something is said."""
    shown = [_any(place, name, source, columns) for name in MORE]
    said = any(source.get(name) not in (None, "", "none") for name in MORE)
    return el(
        "details.printed",
        el("summary", "Weight, system prompt and prompt format"),
        el("div.fields", shown),
        open=said or None,
    )


def _any(place: int, name: str, source: Mapping[str, Any], columns: Sequence[str]) -> Safe:
    spec, value = source_specs()[name], str(source.get(name) or "")
    if name == "system_prompt_type":
        return _pick(place, name, spec.label, value or "none", list(SYSTEM.items()))
    if name.endswith("_field"):
        return _pick(place, name, spec.label, value, _named(columns))
    key = f"map-{place}-{name}"
    told = {"id": key, "data_map": name, "aria_describedby": f"{key}-help"}
    control = (
        el("textarea", value, rows=3, **told)
        if spec.multiline
        else el("input", type="text", value=value, placeholder=_default(spec), **told)
    )
    return el(
        "div.f",
        el("div.lab", el("label", spec.label, for_=key, title=f"data.sources[{place}].{name}")),
        el("div.in", control, el("span.unit", spec.unit) if spec.unit else None),
        el("small.hint", spec.help, id=f"{key}-help"),
        class_="mine" if value else None,
    )


def _default(spec: FieldSpec) -> str:
    return "all" if spec.default is None else f"{spec.default:g}"


def _named(names: Sequence[str]) -> list[tuple[str, str]]:
    return [("", "not said"), *((name, name) for name in names)]


def _pick(place: int, name: str, told: str, value: str, options: Sequence[tuple[str, str]]) -> Safe:
    key = f"map-{place}-{name.replace(':', '-')}"
    known = {option for option, _ in options}
    listed = [*options, *([(value, f"{value} (not in the file)")] if value not in known else [])]
    return el(
        "div.f",
        el("div.lab", el("label", told, for_=key, title=f"data.sources[{place}].{name}")),
        el(
            "div.in.pick",
            el(
                "select",
                [
                    el("option", shown, value=option, selected=option == value)
                    for option, shown in listed
                ],
                id=key,
                data_map=name,
            ),
        ),
        class_="mine" if value not in ("", "auto", "none") else None,
    )


def _undo() -> Safe:
    return el(
        "button.undo#map-undo",
        "⟲",
        type="button",
        data_do="map-undo",
        aria_label="Undo my reading of the rows",
        title="Undo my reading",
    )
