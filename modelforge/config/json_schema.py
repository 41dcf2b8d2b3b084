"""The settings as JSON Schema for programs and as a reference page for people."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from modelforge.config.fields import FieldSpec, field_specs, source_specs, specs_by_name
from modelforge.config.resolve import Layer, resolve
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.validation_messages import allowed_values
from modelforge.config.visibility import describe_conditions
from modelforge.errors import ConfigError

_INTRODUCTION = """# Settings

<!-- Written by modelforge.config.json_schema; change the schema, not this page. -->

Every setting of a run, with the same name in the form, in recipe files and in REST bodies.
Four are required: {required}.
A setting that is left out has the default on this page on every machine; profiles only fill
the form and `modelforge init`. A dotted name is inside a group: `hardware.device` is `device`
under `hardware`.
"""

_SOURCE = """## A source

The settings of an entry of `data.sources` and `data.validation_sources`. Only `path` is required;
columns that are not named are detected from the data.
"""


def json_schema(profiles: Iterable[str] = ()) -> dict[str, Any]:
    """Return the JSON Schema of a config, with label, help, unit and group of every setting.

    With the names of the profiles of this computer, these are the choices of `compute_specs`.
    """
    schema = TrainingConfig.model_json_schema()
    if names := list(profiles):
        schema["properties"]["compute_specs"]["enum"] = names
    for model in (schema, *schema["$defs"].values()):
        for entry in model["properties"].values():
            if "description" in entry:
                entry["description"] = " ".join(entry["description"].split())
    return schema


def settings_markdown() -> str:
    """Return docs/settings.md: every setting by group."""
    required = ", ".join(f"`{spec.name}`" for spec in field_specs() if spec.required)
    parts = [_INTRODUCTION.format(required=required), _combinations()]
    for group in dict.fromkeys(spec.group for spec in field_specs()):
        parts.append(f"## {group}\n")
        parts += [_entry(spec) for spec in field_specs() if spec.group == group]
    parts.append(_SOURCE)
    parts += [_entry(spec) for spec in source_specs().values()]
    return "\n".join(parts)


def _combinations() -> str:
    """Return the providers that train each strategy on each task, as a table."""
    choices = [specs_by_name()[name].choices for name in ("task", "strategy", "provider")]
    tasks, strategies, providers = choices
    lines = ["## What trains what\n", f"| task | {' | '.join(strategies)} |"]
    lines.append(f"| --- |{' --- |' * len(strategies)}")
    for task in tasks:
        cells = [
            ", ".join(p for p in providers if _is_accepted(task, strategy, p)) or "–"
            for strategy in strategies
        ]
        lines.append(f"| `{task}` | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _is_accepted(task: str, strategy: str, provider: str) -> bool:
    values = {"task": task, "strategy": strategy, "provider": provider, "max_seq_length": 512}
    required = {"model_name": "starter", "dataset": "rows.jsonl", "compute_specs": "low_end"}
    try:
        resolve(Layer("table", required | values))
    except ConfigError:
        return False
    return True


def _entry(spec: FieldSpec) -> str:
    facts = [("Values", _values(spec)), ("Default", _default(spec))]
    if spec.unit:
        facts.append(("Unit", spec.unit))
    if when := describe_conditions(spec.name):
        facts.append(("Applies", when))
    rows = "\n".join(f"- {name}: {text}" for name, text in facts)
    about = f"{spec.help} {spec.more}".strip()
    return f"### `{spec.name}`\n\n**{spec.label}.** {about}\n\n{rows}\n"


def _values(spec: FieldSpec) -> str:
    if spec.kind == "choice":
        return ", ".join(f"`{choice}`" for choice in spec.choices)
    if spec.kind == "list":
        return "a list of [sources](#a-source)"
    return allowed_values(spec).replace("leave it empty", "`null`")


def _default(spec: FieldSpec) -> str:
    return "none (required)" if spec.required else f"`{json.dumps(spec.default)}`"
