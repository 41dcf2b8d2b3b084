"""Generate the documentation pages of the REST interface from the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelforge.pages import render_page
from modelforge.runs.event_fields import FieldSpec, field_specs
from modelforge.runs.event_types import ALIASES, event_kinds

Schema = dict[str, Any]
SETTINGS = "TrainingConfig"
PATH_PARAMETERS = {
    "run_id": "The id of the run.",
    "export_id": "The id of the export.",
    "evaluation_id": "The id of the evaluation.",
    "trial_run_id": "The id of the trial run.",
    "sweep_id": "The id of the sweep.",
    "name": "The name of the dataset in the list.",
}
BODIES = {
    "stop": '`{"keep": true}` or nothing',
    "repair": '`{"codes": ["duplicate-rows"]}` or nothing',
}
ERRORS = {
    "400": "The request is malformed.",
    "401": "The server has a password; send it by HTTP Basic with any user name.",
    "403": "The Host header is not a name of this server, or another site sent the request.",
    "404": "There is no such run, export, evaluation, dataset, file or model.",
    "409": "The machine is in use; `holder` names the run that uses it.",
    "413": "The body is too large: more than 1 MiB, or 2 GiB for a data file.",
    "422": "The settings or the data cannot be used; `problems` lists every reason.",
    "429": "Too many wrong passwords; `Retry-After` says how long to wait.",
    "500": "The disk, a process or ModelForge itself failed; the message says which.",
    "501": "A package is not installed; the remedy says which.",
}
TYPE_NAMES = {"string": "text", "integer": "whole number", "boolean": "`true` or `false`"}
EVENT_TYPE_NAMES = {
    "int": "whole number",
    "float": "number",
    "str": "text",
    "bool": "`true` or `false`",
    "dict": "object",
}


def rest_html(document: Schema) -> str:
    """Return the page at /api/docs. It loads nothing from elsewhere."""
    info = document["info"]
    return render_page("rest-api.html", routes=list(_routes(document)), **info)


def rest_markdown(document: Schema) -> str:
    """Return docs/rest-api.md."""
    description = document["info"]["description"]
    return render_page("rest-api.md", routes=list(_routes(document)), description=description)


def responses_markdown(document: Schema) -> str:
    """Return docs/responses.md."""
    schemas = [
        {
            "name": name,
            "description": schema.get("description", "").strip(),
            "choices": _type(schema) if "enum" in schema else "",
            "fields": [
                {"name": field, "type": _type(part), "description": part.get("description", "")}
                for field, part in schema.get("properties", {}).items()
            ],
        }
        for name, schema in sorted(_response_schemas(document).items())
    ]
    return render_page("responses.md", errors=ERRORS, events=_events(), schemas=schemas)


def events_markdown() -> str:
    """Return docs/events.md."""
    renamed = [(": ".join(key), name) for key, name in ALIASES.items()]
    return render_page("events.md", events=_events(), renamed=renamed)


def _events() -> list[dict[str, Any]]:
    return [
        {
            "kind": kind,
            "summary": event.__doc__ or "",
            "fields": [_event_field(spec) for spec in field_specs(event)],
        }
        for kind, event in event_kinds().items()
    ]


def _event_field(spec: FieldSpec) -> dict[str, str]:
    kind = EVENT_TYPE_NAMES.get(spec.type_name, "list")
    missing = " or absent" if spec.info.omitted else " or null" if spec.nullable else ""
    return {
        "name": spec.name,
        "type": kind + missing,
        "unit": spec.info.unit,
        "description": spec.info.text,
    }


def _routes(document: Schema) -> Iterator[dict[str, Any]]:
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            yield {
                "method": method.upper(),
                "path": path,
                "description": route["description"],
                "parameters": [_parameter(item) for item in route.get("parameters", [])],
                "body": _body(route),
                "responses": [_response(*item) for item in route["responses"].items()],
            }


def _parameter(parameter: Schema) -> dict[str, str]:
    name = parameter["name"]
    return {
        "name": name,
        "location": parameter["in"],
        "type": _type(parameter["schema"]) + (", required" if parameter.get("required") else ""),
        "description": parameter.get("description", PATH_PARAMETERS.get(name, "")),
    }


def _body(route: Schema) -> str:
    for media_type, content in route.get("requestBody", {}).get("content", {}).items():
        if media_type == "application/octet-stream":
            return "the plain file"
        names = list(_references(content["schema"]))
        if SETTINGS in names:
            return "the settings of [settings.md](settings.md), as a JSON object"
        if names:
            return next((text for part, text in BODIES.items() if part in names[0]), names[0])
    return ""


def _response(status: str, response: Schema) -> dict[str, str]:
    content = response.get("content", {})
    parts = [_link(part.get("schema", {})) or f"`{kind}`" for kind, part in content.items()]
    description = response["description"]
    return {
        "status": status,
        "content": ", ".join(parts),
        "description": "" if description == "Successful Response" else description,
    }


def _response_schemas(document: Schema) -> dict[str, Schema]:
    """Return the schemas of requests and responses. Those of settings have their own page."""
    schemas: dict[str, Schema] = document["components"]["schemas"]
    settings = {SETTINGS, *_references(schemas[SETTINGS])}
    return {
        name: schema
        for name, schema in schemas.items()
        if name not in settings and not name.startswith("Body_")
    }


def _references(node: Any) -> Iterator[str]:
    """Yield the names of all schemas that a part of the document refers to."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"].rsplit("/", 1)[-1]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)


def _link(schema: Schema) -> str:
    prefix = "list of " if schema.get("type") == "array" else ""
    links = [f"[{name}](responses.md#{name.lower()})" for name in _references(schema)]
    return prefix + " or ".join(links) if links else ""


def _type(schema: Schema) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema and "type" not in schema:
        return " or ".join(_type(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array" and "items" in schema:
        return f"list of {_type(schema['items'])}"
    name = str(schema.get("type", "anything"))
    return TYPE_NAMES.get(name, name)
