"""Odd but realistic files: read, or refused and repaired without a false promise."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelforge.data.checks.run import check_file
from tests.data.test_reported_files import (
    BECAUSE,
    OBJECTS,
    PAIR,
    TOLD_CHAT,
    Case,
    answer,
    check_case,
    learned,
    lines,
    objects,
    repeated,
    table,
    user,
)

NAMED = "u: Name oak | a: It is oak"
SHEET = table("instruction,output", "Name TREE", "It is TREE")
MORE = "".join(each.replace("Name", "Say") + "\n" for each in OBJECTS)
COLUMNS = {name: repeated(PAIR[name]) for name in PAIR}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}
CHAT = {"messages": [user(), answer()]}

CASES = [
    Case("mac.csv", SHEET.replace("\r\n", "\r"), NAMED),
    Case("mac.txt", "One line\rTwo lines\r" * 6, "One line", "duplicate-rows", 2),
    Case("mac.jsonl.gz", gzip.compress("\r".join(OBJECTS).encode()), NAMED),
    Case("joined.jsonl", "\n".join(OBJECTS) + "\n\ufeff" + MORE, "", "bad-json", 24, 0),
    Case("joined.csv", SHEET + "\ufeff" + SHEET.replace("Name", "Say"), NAMED,
         "repeated-header", 24, 25),
    Case("joined.json",
         objects(PAIR) + "\n" + objects({"instruction": "Say TREE", "output": "x y"}),
         NAMED, rows=24),
    Case("trailing.json", objects(PAIR) + "\n}<!-- end -->", "", "text-after-list", 12, 0),
    Case("script.json", f"const data = {objects(PAIR)};", "", "bad-json", 0, 0),
    Case("excel.txt",
         table("prompt,completion", 'Say "TREE"\nnow', BECAUSE, delimiter="\t").encode("utf-16"),
         'u: Say "oak"\nnow | a: Because oak.'),
    Case("twice.jsonl", lines(json.dumps(PAIR)), "", "row-is-text", 12, 0),
    Case("lists.json", json.dumps(COLUMNS), NAMED),
    Case("two.jsonl", lines(COLUMNS), "", "no-usable-row list-column", 0, 0),
    Case("sequence.jsonl",
         lines({"messages": {"role": ["user", "assistant"], "content": ["TREE?", BECAUSE]}}),
         TOLD_CHAT),
    Case("ai.jsonl", lines({"messages": [user() | {"role": "User"}, answer() | {"role": "AI"}]}),
         TOLD_CHAT),
    Case("weight.jsonl",
         lines({"messages": [user(), answer("No.", weight="0"), user("Why?"),
                             answer(train="true")]}),
         "u: oak? | a0: No. | u: Why? | a: Because oak.", "untrained-answers"),
    Case("tools.jsonl", lines(CHAT | {"tools": str([TOOL])}), TOLD_CHAT),
    Case("no-tools.jsonl", lines(CHAT | {"tools": "look, find"}), "", "no-usable-row bad-tools", 0,
         0),
    Case("label.jsonl", lines(PAIR | {"label": "bad"}), NAMED, "unused-columns"),
    Case("class.csv", table("text,label", "I like TREE.", "1"), "I like oak.", "unused-columns"),
    Case("number.jsonl", lines({"prompt": "TREE?", "completion": 12345678901234567890123}),
         "u: oak? | a: 1.2345678901234568e+22", "inexact-number"),
    Case("float.jsonl", lines({"prompt": "TREE?", "completion": 12.5}), "u: oak? | a: 12.5"),
    Case("news.csv", table("article,highlights", "The TREE grows.", BECAUSE),
         "u: Summarise this text.\n\nThe oak grows. | a: Because oak."),
    Case("null.jsonl", lines({"prompt": "TREE?", "completion": None}), "",
         "no-usable-row empty-answer", 0, 0),
    Case("blank.csv", table("prompt,completion", "TREE?", "   "), "",
         "no-usable-row empty-answer", 0, 0),
    Case("one.json", json.dumps(CHAT, indent=1).replace("TREE", "oak"), TOLD_CHAT, "few-rows",
         rows=1),
    Case("nested.jsonl", lines({"id": 1, "data": PAIR}), "", "unknown-columns", 0, 0),
    Case("columns.csv", table("prompt,completion,completion", "TREE?", BECAUSE, "No."), "",
         "duplicate-column", 12, 0),
    Case("index.csv", table(",prompt,completion", "1", "TREE?", BECAUSE), "", "unnamed-column", 12,
         0),
    Case("huge.csv", table("prompt,completion", "TREE?", f"{'word ' * 200_000}TREE"),
         f"u: oak? | a: {'word ' * 200_000}oak"),
    Case("backslash.csv", "prompt,completion\n" + "".join(repeated('"Say \\"TREE\\" now",Yes.\n')),
         "", "text-after-quote", 0, 0),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_odd_file_is_learned_as_shown_or_named(tmp_path: Path, case: Case) -> None:
    check_case(tmp_path, case)


TABLES: dict[str, tuple[list[Any], int, str]] = {
    "dictionary": (pa.array(["Yes, it is."] * 12).dictionary_encode(), 12, ""),
    "numbers": (pa.array([1.5, None] * 6), 6, "empty-answer few-rows"),
    "dates": (pa.array([0] * 12, pa.date32()), 0, "no-usable-row not-text"),
    "bytes": (pa.array([b"Yes."] * 12), 0, "no-usable-row not-text"),
    "long text": (pa.array(["Yes, it is."] * 12, pa.large_string()), 12, ""),
}


@pytest.mark.parametrize("name", TABLES)
def test_columns_of_every_type_are_read_or_named(tmp_path: Path, name: str) -> None:
    completions, rows, found = TABLES[name]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"prompt": repeated("TREE?"), "completion": completions}), path)
    assert learned(path)[0] == rows
    assert {each.code for each in check_file(path).findings if each.level != "note"} == set(
        found.split()
    )
