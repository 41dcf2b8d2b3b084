"""Examples that people write themselves: read from a table, kept as JSONL among the uploads."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from modelforge.data.columns.detect import detect
from modelforge.data.formats.read import read_rows
from modelforge.errors import ConfigError, DataError, Problem
from modelforge.forge import Forge

MOST_ROWS = 2000
LIMIT_BYTES = 64 * 2**20
_UNSAFE = re.compile(r"[^\w.-]+")


def imported(name: str, text: str) -> list[dict[str, str]]:
    """Return the rows of a table in text as examples; raises DataError, which names the line.

    Columns that name questions and answers are found; else the first two are taken.
    """
    suffix = ".tsv" if name.lower().endswith(".tsv") else ".csv"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{stem(name)}{suffix}"
        path.write_text(text, encoding="utf-8")
        rows = [row.data for row in islice(read_rows(path), MOST_ROWS)]
    fields = _fields(rows, name)
    return [{part: str(row.get(column) or "") for part, column in fields.items()} for row in rows]


def saved_examples(forge: Forge, name: str, rows: object) -> str:
    """Keep written examples as conversations; return what `dataset` says for them."""
    given = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    told = [{part: _text(row, part) for part in ("system", "question", "answer")} for row in given]
    full = [row for row in told if row["question"] or row["answer"]]
    _require(full, "example", "Write a question and its answer.")
    for place, row in enumerate(full, start=1):
        for part in ("question", "answer"):
            if not row[part]:
                what = f"Example {place} has no {part}."
                raise ConfigError(Problem("rows", what, "Write it, or remove the example."))
    return _kept(forge, name or "examples", [_conversation(row) for row in full])


def saved_pairs(forge: Forge, name: str, pairs: object) -> str:
    """Keep chosen answers as preferences; return what `dataset` says for them."""
    given = [row for row in pairs if isinstance(row, Mapping)] if isinstance(pairs, list) else []
    full = [{part: _text(row, part) for part in ("prompt", "chosen", "rejected")} for row in given]
    full = [row for row in full if all(row.values())]
    _require(full, "pair", "Pick the better answer of a prompt.")
    return _kept(forge, name or "pairs", full)


def stem(name: str) -> str:
    """Return a name as a file may have it, without its ending."""
    safe = _UNSAFE.sub("-", Path(name.strip()).stem).strip("-.")
    return safe[:80] or "examples"


def _conversation(row: Mapping[str, str]) -> dict[str, Any]:
    turns = (("system", "system"), ("user", "question"), ("assistant", "answer"))
    return {"messages": [{"role": role, "content": row[part]} for role, part in turns if row[part]]}


def _kept(forge: Forge, name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    lines = (f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in rows)
    return forge.data.upload(f"{stem(name)}.jsonl", lines, LIMIT_BYTES).name


def _require(rows: Sequence[Any], noun: str, remedy: str) -> None:
    if not rows:
        raise ConfigError(Problem("rows", f"There is no {noun} yet.", remedy))
    if len(rows) > MOST_ROWS:
        what = f"{len(rows):,} are more than the {MOST_ROWS:,} that fit here."
        raise ConfigError(Problem("rows", what, "Save them in two parts."))


def _fields(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, str]:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    try:
        found = detect(rows, name)
    except DataError:
        found = None
    named = {"system": "system", "prompt": "question", "instruction": "question"}
    named["answer"] = "answer"
    if found is not None and found.kind in ("pair", "instruction"):
        return {named[part]: col for part, col in found.fields.items() if part in named}
    if len(columns) < 2:
        what = "has one column, where a question and an answer are needed."
        raise DataError(Problem(name, what, "Part them by commas, semicolons or tabs."))
    return {"question": columns[0], "answer": columns[1]}


def _text(row: Mapping[str, Any], part: str) -> str:
    value = row.get(part)
    return value.strip() if isinstance(value, str) else ""
