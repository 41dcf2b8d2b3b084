"""The Build page: write examples, or sample two answers per prompt and pick the better one."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from modelforge.data.columns.detect import detect_mapping
from modelforge.data.formats.read import read_rows
from modelforge.errors import ConfigError, DataError, Problem
from modelforge.forge import Forge
from modelforge.units import MIB
from ui.contract import DatasetReply, Reply, TableReply
from ui.html.components import machine_brief
from ui.html.gradio_page import gradio_page, text
from ui.html.templates import render
from ui.pages import model_picker

MAX_ROWS = 2000
MAX_BYTES = 64 * MIB
_UNSAFE = re.compile(r"[^\w.-]+")


def page(forge: Forge) -> None:
    """Add the page to the current Blocks."""

    def open(_request: Any) -> Reply:
        runs = model_picker.runs_with_result(forge, "")
        picker = model_picker.model_select(
            runs, model_picker.base_models(forge), "", key="pairs-model", label="Model"
        )
        return Reply(
            parts={
                "pairs-model": picker,
                "pairs-busy": model_picker.busy_note(forge.runs.active()),
                "machine-brief": machine_brief(forge.machine.current()),
            },
        )

    def import_table(request: Any) -> TableReply:
        return TableReply(rows=imported_rows(text(request, "name"), text(request, "text")))

    def save_examples(request: Any) -> DatasetReply:
        rows = request.get("rows") if isinstance(request, dict) else None
        return DatasetReply(dataset=store_examples(forge, text(request, "name"), rows))

    def save_pairs(request: Any) -> DatasetReply:
        pairs = request.get("pairs") if isinstance(request, dict) else None
        return DatasetReply(dataset=store_pairs(forge, text(request, "name"), pairs))

    gradio_page(render("build", "body"), "build", open, import_table, save_examples, save_pairs)


def imported_rows(name: str, text: str) -> list[dict[str, str]]:
    """Return the rows of a table as examples; raise DataError with the line of an error.

    Columns for questions and answers are detected; otherwise the first two are used.
    """
    suffix = ".tsv" if name.lower().endswith(".tsv") else ".csv"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{file_stem(name)}{suffix}"
        path.write_text(text, encoding="utf-8")
        rows = [row.data for row in islice(read_rows(path), MAX_ROWS)]
    columns = _example_columns(rows, name)
    return [{part: str(row.get(column) or "") for part, column in columns.items()} for row in rows]


def _example_columns(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, str]:
    try:
        mapping = detect_mapping(rows, name)
    except DataError:
        mapping = None
    parts = {"system": "system", "prompt": "question", "instruction": "question"}
    parts["answer"] = "answer"
    if mapping is not None and mapping.kind in ("pair", "instruction"):
        return {parts[name]: column for name, column in mapping.fields.items() if name in parts}
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if len(columns) < 2:
        what = "has one column; a question and an answer are needed."
        raise DataError(Problem(name, what, "Separate them by commas, semicolons or tabs."))
    return {"question": columns[0], "answer": columns[1]}


def store_examples(forge: Forge, name: str, rows: object) -> str:
    """Store written examples as conversations; return the value of the setting `dataset`."""
    examples = [
        example for example in _texts(rows, ("system", "question", "answer"))
        if example["question"] or example["answer"]
    ]  # fmt: skip
    _check_count(examples, "example", "Write a question and its answer.")
    for place, example in enumerate(examples, start=1):
        for part in ("question", "answer"):
            if not example[part]:
                what = f"Example {place} has no {part}."
                raise ConfigError(Problem("rows", what, "Write it, or remove the example."))
    return _store(forge, name or "examples", [_conversation(example) for example in examples])


def store_pairs(forge: Forge, name: str, pairs: object) -> str:
    """Store preference pairs; return the value of the setting `dataset`."""
    complete = [
        pair for pair in _texts(pairs, ("prompt", "chosen", "rejected")) if all(pair.values())
    ]
    _check_count(complete, "pair", "Pick the better answer of a prompt.")
    return _store(forge, name or "pairs", complete)


def file_stem(name: str) -> str:
    """Return a name without its suffix and without characters that file names cannot have."""
    safe = _UNSAFE.sub("-", Path(name.strip()).stem).strip("-.")
    return safe[:80] or "examples"


def _texts(rows: object, parts: Sequence[str]) -> list[dict[str, str]]:
    listed = rows if isinstance(rows, list) else []
    return [
        {part: _text(row, part) for part in parts} for row in listed if isinstance(row, Mapping)
    ]


def _text(row: Mapping[str, Any], part: str) -> str:
    value = row.get(part)
    return value.strip() if isinstance(value, str) else ""


def _conversation(example: Mapping[str, str]) -> dict[str, Any]:
    roles = (("system", "system"), ("user", "question"), ("assistant", "answer"))
    messages = [{"role": role, "content": example[part]} for role, part in roles if example[part]]
    return {"messages": messages}


def _check_count(rows: Sequence[Any], noun: str, remedy: str) -> None:
    if not rows:
        raise ConfigError(Problem("rows", f"There is no {noun} yet.", remedy))
    if len(rows) > MAX_ROWS:
        what = f"{len(rows):,} rows are more than the limit of {MAX_ROWS:,}."
        raise ConfigError(Problem("rows", what, "Save them in two parts."))


def _store(forge: Forge, name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    lines = (f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in rows)
    return forge.datasets.upload(f"{file_stem(name)}.jsonl", lines, MAX_BYTES).name
