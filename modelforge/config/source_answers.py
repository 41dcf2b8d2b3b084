"""What was said of the sources: a list of answers becomes clean entries, or all its problems."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from modelforge.config.coercion import tidy
from modelforge.config.fields import FieldSpec, source_fields
from modelforge.config.rules.source_rules import source_problems
from modelforge.config.schema.data import Source
from modelforge.config.validation_messages import listed, refused, shown
from modelforge.errors import Problem

MOST = 100
PROPERTIES = ("role", "content", "name", "tool_calls", "tool_call_id")


def read_sources(spec: FieldSpec, value: Any) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Return the entries as the schema should see them, and everything that is wrong with them.

    Problems are named like `data.sources[0].prompt_format`. When there is one, the list is not
    to be used, and the rules within a source have been tried already.
    """
    if value is None:
        return [], []
    if not isinstance(value, (list, tuple)):
        remedy = "Give a list of sources, each with its path."
        return [], [Problem(spec.name, f"{shown(value)} is no list of sources.", remedy)]
    if len(value) > MOST:
        what = f"{len(value)} sources are too many."
        return [], [Problem(spec.name, what, f"Give at most {MOST}, or a folder of files.")]
    entries: list[dict[str, Any]] = []
    problems: list[Problem] = []
    fine: list[tuple[Source, str]] = []
    for place, said in enumerate(value):
        where = f"{spec.name}[{place}]"
        entry, wrong = _entry(said, where)
        entries.append(entry)
        problems += wrong
        if not wrong:
            fine.append((Source.model_validate(entry), where))
    if problems:
        # The rules of the schema only see whole lists.
        problems += [found for source, where in fine for found in source_problems(source, where)]
    return entries, problems


def _entry(said: Any, where: str) -> tuple[dict[str, Any], list[Problem]]:
    if not isinstance(said, Mapping):
        remedy = "Name the settings of the source, for instance: path: rows.jsonl"
        return {}, [Problem(where, f"{shown(said)} is no source.", remedy)]
    problems: list[Problem] = []
    entry: dict[str, Any] = {}
    wrong: set[str] = set()
    for key, value in said.items():
        spec = source_fields().get(str(key))
        if spec is None:
            problems.append(_unknown(str(key), where))
            continue
        fault, entry[spec.name] = tidy(spec, value)
        found = [_refused(spec, where, value, fault)] if fault else _names(spec, where, value)
        if found:
            problems += found
            wrong.add(spec.name)
    try:
        Source.model_validate(entry)
    except ValidationError as error:
        for found_error in error.errors(include_url=False, include_context=False):
            name = str(found_error["loc"][0])
            if name not in wrong:
                missing = found_error["type"] == "missing"
                value = None if missing else found_error["input"]
                problems.append(_refused(source_fields()[name], where, value, found_error["type"]))
    return entry, problems


def _refused(spec: FieldSpec, where: str, value: Any, kind: str) -> Problem:
    return refused(replace(spec, name=f"{where}.{spec.name}"), value, kind)


def _unknown(key: str, where: str) -> Problem:
    near = difflib.get_close_matches(key.strip().lower()[:100], source_fields(), n=1, cutoff=0.6)
    remedy = f"Did you mean '{near[0]}'?" if near else "Leave it out."
    return Problem(f"{where}.{key[:60]}", "A source has no setting of this name.", remedy)


def _names(spec: FieldSpec, where: str, value: Any) -> list[Problem]:
    """Return what is wrong with `message_property_mappings`; nothing for other settings."""
    if spec.kind != "map":
        return []
    full = f"{where}.{spec.name}"
    if not isinstance(value, Mapping):
        what = f"{shown(value)} does not name anything."
        return [Problem(full, what, "Write, for instance: role: from")]
    problems = []
    for key, name in value.items():
        if str(key) not in PROPERTIES:
            what = f"Messages have no {shown(str(key))}."
            problems.append(Problem(full, what, f"On the left stand {listed(PROPERTIES, 'and')}."))
        elif not isinstance(name, str) or not name.strip():
            what = f"The name of {key} is missing: {shown(name)}."
            remedy = f"Say what {key} is called in the messages."
            problems.append(Problem(full, what, remedy))
    return problems
