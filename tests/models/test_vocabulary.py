"""The number of token ids of a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelforge.models.resolve import token_count

WORDS = {"a": 0, "b": 1, "c": 2}


@pytest.mark.parametrize(
    ("tokenizer", "count"),
    [
        ({"model": {"vocab": WORDS}}, 3),
        ({"model": {"vocab": WORDS}, "added_tokens": [{"id": 1}]}, 3),
        ({"model": {"vocab": WORDS}, "added_tokens": [{"id": 3}, {"id": 9}]}, 10),
        ({"model": {"vocab": [["a", -1.0], ["b", -2.0]]}}, 2),
        ({"model": {"vocab": {}}}, None),
        ({"model": {}}, None),
        ({}, None),
        ([], None),
        ({"model": {"vocab": {"a": "x"}}}, None),
    ],
)
def test_the_highest_id_counts(tmp_path: Path, tokenizer: Any, count: int | None):
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    assert token_count(tmp_path) == count


def test_a_missing_file_is_unknown(tmp_path: Path):
    assert token_count(tmp_path) is None
