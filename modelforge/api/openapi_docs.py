"""The REST interface described: a page for the browser and two for the repository."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from modelforge.runs.event_types import ALIASES, KINDS, Event, FieldSpec, field_specs

Schema = dict[str, Any]
WRITTEN = (
    "<!-- Written by modelforge.api.router; change the routes or responses, not this page. -->"
)
WRITTEN_FROM_EVENTS = (
    "<!-- Written by scripts/docs.py; change modelforge/runs/event_types.py, not this page. -->"
)
SETTINGS = "TrainingConfig"
PARTS_OF_PATHS = {"run_id": "The id of the run.", "name": "The name of the data set in the list."}

BODIES = {
    "stop": '`{"keep": true}` or nothing',
    "repair": '`{"codes": ["duplicate-rows"]}` or nothing',
}

REFUSALS = {
    "400": "The request is malformed.",
    "401": "The server has a password; send it by HTTP Basic with any user name.",
    "403": "The Host is none of this server's names, or another site sent the request.",
    "404": "There is no such run, data set, file or model.",
    "409": "A run holds the machine; `holder` names it.",
    "413": "The body is too large: 1 MiB, or 2 GiB for a data file.",
    "422": "The settings or the data cannot be used; `problems` has every reason.",
    "429": "Too many wrong passwords; `Retry-After` says how long to wait.",
    "500": "Disk, process or ModelForge itself failed; the sentence says which.",
    "501": "A package is not installed; the remedy says which.",
}


def markdown_of_routes(document: Schema) -> str:
    """Return docs/rest-api.md from the OpenAPI document."""
    parts = [f"# REST\n\n{WRITTEN}\n\n{document['info']['description']}\n", _EXAMPLE]
    for verb, path, route in _routes(document):
        parts.append(f"## `{verb} {path}`\n\n{route['description']}\n")
        if rows := [_parameter(each) for each in route.get("parameters", [])]:
            parts.append(_table(["parameter", "in", "takes", "meaning"], rows))
        if body := _body(route):
            parts.append(f"Body: {body}.\n")
        parts.append(_table(["status", "answer", "meaning"], list(_answers(route))))
    return "\n".join(parts).rstrip() + "\n"


def markdown_of_responses(document: Schema) -> str:
    """Return docs/responses.md from the OpenAPI document."""
    parts = [f"# Responses\n\n{WRITTEN}\n", _INTRODUCTION]
    parts.append(_table(["status", "meaning"], [[f"`{k}`", v] for k, v in REFUSALS.items()]))
    parts.append("## Events\n\nThe kinds of `RunEvent`; [events.md](events.md) has their fields.\n")
    rows = [[f"[{kind}](events.md#{kind})", _summary(event)] for kind, event in KINDS.items()]
    parts.append(_table(["kind", "meaning"], rows))
    for name, schema in sorted(_answer_schemas(document).items()):
        parts.append(f"## {name}\n\n{schema.get('description', '').strip()}\n")
        if "enum" in schema:
            parts.append(f"One of {_type(schema)}.\n")
            continue
        rows = [
            [f"`{field}`", _type(part), part.get("description", "")]
            for field, part in schema.get("properties", {}).items()
        ]
        parts.append(_table(["field", "type", "meaning"], rows))
    return "\n".join(parts).rstrip() + "\n"


def markdown_of_events() -> str:
    """Return docs/events.md from the event classes."""
    parts = [f"# Events\n\n{WRITTEN_FROM_EVENTS}\n", _EVENTS_INTRODUCTION]
    for kind, event in KINDS.items():
        rows = [_event_field(spec) for spec in field_specs(event)]
        parts.append(f"## {kind}\n\n{_summary(event)}\n")
        parts.append(_table(["field", "type", "unit", "meaning"], rows))
    old = [[f"`{': '.join(key)}`", f"`{name}`"] for key, name in ALIASES.items()]
    parts.append("## Renamed\n\nOld run folders have these names; they are read as the new ones.\n")
    parts.append(_table(["old", "new"], old))
    return "\n".join(parts).rstrip() + "\n"


def page(document: Schema) -> str:
    """Return the OpenAPI document as one page of HTML that loads nothing from elsewhere."""
    cards = "".join(_card(*route) for route in _routes(document))
    title, version = escape(document["info"]["title"]), escape(document["info"]["version"])
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title} REST</title>"
        f"<meta name='viewport' content='width=device-width'><style>{_STYLE}</style></head>"
        f"<body><main><h1>{title} {version}: REST</h1>"
        f"<p>{escape(document['info']['description'])}</p>"
        f"<p><a href='openapi.json'>openapi.json</a></p>{cards}</main></body></html>"
    )


def _routes(document: Schema) -> Iterator[tuple[str, str, Schema]]:
    for path, verbs in document["paths"].items():
        for verb, route in verbs.items():
            yield verb.upper(), path, route


def _answer_schemas(document: Schema) -> dict[str, Schema]:
    """Return what answers are made of; settings have a page of their own."""
    schemas: dict[str, Schema] = document["components"]["schemas"]
    settings = {SETTINGS, *_named(schemas[SETTINGS])}
    return {
        name: schema
        for name, schema in schemas.items()
        if name not in settings and not name.startswith("Body_")
    }


def _named(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value.rsplit("/", 1)[-1]
            yield from _named(value)
    elif isinstance(node, list):
        for each in node:
            yield from _named(each)


def _parameter(said: Schema) -> list[str]:
    kind = _type(said["schema"])
    needed = ", required" if said.get("required") else ""
    about = said.get("description", PARTS_OF_PATHS.get(said["name"], ""))
    return [f"`{said['name']}`", said["in"], kind + needed, about]


def _body(route: Schema) -> str:
    for kind, content in route.get("requestBody", {}).get("content", {}).items():
        if kind == "application/octet-stream":
            return "the file as it is"
        names = list(_named(content["schema"]))
        if SETTINGS in names:
            return "the settings of [settings.md](settings.md), as a JSON object"
        if names:
            return next((text for part, text in BODIES.items() if part in names[0]), names[0])
    return ""


def _answers(route: Schema) -> Iterator[list[str]]:
    for status, said in route["responses"].items():
        content = said.get("content", {})
        kinds = [_link(part.get("schema", {})) or f"`{kind}`" for kind, part in content.items()]
        about = said["description"]
        yield [f"`{status}`", ", ".join(kinds), "" if about == "Successful Response" else about]


def _link(schema: Schema) -> str:
    many = "list of " if schema.get("type") == "array" else ""
    names = [f"[{name}](responses.md#{name.lower()})" for name in _named(schema)]
    return many + " or ".join(names) if names else ""


def _type(schema: Schema) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema and "type" not in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array" and "items" in schema:
        return f"list of {_type(schema['items'])}"
    words = {"string": "text", "integer": "whole number", "boolean": "`true` or `false`"}
    kind = str(schema.get("type", "anything"))
    return words.get(kind, kind)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(each) for each in line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _summary(event: type[Event]) -> str:
    return event.__doc__ or ""


def _event_field(spec: FieldSpec) -> list[str]:
    words = {"int": "whole number", "float": "number", "str": "text", "bool": "`true` or `false`"}
    kind = words.get(spec.type_name, "object" if spec.type_name == "dict" else "list")
    missing = "or absent" if spec.info.omitted else "or null" if spec.nullable else ""
    return [f"`{spec.name}`", f"{kind} {missing}".strip(), spec.info.unit, spec.info.text]


def _card(verb: str, path: str, route: Schema) -> str:
    taken = "".join(
        f"<li><code>{escape(each['name'])}</code> ({escape(each['in'])}): "
        f"{escape(_parameter(each)[3])}</li>"
        for each in route.get("parameters", [])
    )
    given = "".join(
        f"<li><code>{escape(status)}</code> {escape(said['description'])}</li>"
        for status, said in route["responses"].items()
    )
    return (
        f"<section><h2><code>{verb} {escape(path)}</code></h2>"
        f"<p>{escape(route['description'])}</p><ul>{taken}</ul><ul>{given}</ul></section>"
    )


_STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;margin:2rem}"
    "main{max-width:52rem;margin:auto}h2{font-size:1rem;margin:0}"
    "section{border:1px solid #8886;border-radius:8px;padding:.8rem 1rem;margin:1rem 0}"
)
_EXAMPLE = """The server listens on 127.0.0.1. With a password, send it by HTTP Basic:
`curl -u :PASSWORD`.

```sh
curl http://127.0.0.1:7860/api/runs -H 'Content-Type: application/json' \\
  -H "Idempotency-Key: my-first-run" -d '{"task": "text-generation",
  "model_name": "starter", "dataset": "sample:captain", "compute_specs": "low_end"}'
curl -N http://127.0.0.1:7860/api/runs/ID/events
curl http://127.0.0.1:7860/api/datasets?filename=rows.csv --data-binary @rows.csv
curl http://127.0.0.1:7860/api/datasets/rows.csv/findings
```
"""
_EVENTS_INTRODUCTION = """The worker appends one JSON line per event to `events.jsonl` in the run
folder: `{"n": 13, "t": 1795842042.07, "kind": "step", "data": {...}}`. `n` counts from 1 without
gaps, `t` is Unix time in seconds. `GET /api/runs/ID/events` streams the same objects as
server-sent events. Readers ignore kinds and fields they do not know; old runs may lack fields.
"""
_INTRODUCTION = """Every refusal has `problems`, a list of `where`, `what` and `remedy`; the guard
in front of all routes says `error` with the same three parts instead. No answer holds a traceback.
"""
