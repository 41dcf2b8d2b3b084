"""Rows as people see them before a run: raw, read, and never too long to be sent."""

from __future__ import annotations

import datetime
import json

from modelforge.data.sources.load import MAX_ITEMS, MAX_TEXT_CHARS, truncate


def test_long_texts_and_lists_say_how_much_is_left_out():
    told = truncate({"text": "x" * (MAX_TEXT_CHARS + 1500), "list": list(range(MAX_ITEMS + 5))})
    assert told["text"].endswith("… (1,500 more characters)")
    assert told["list"][-1] == "… (5 more)"


def test_whatever_a_parquet_file_holds_can_be_sent_as_json():
    odd = {
        "when": datetime.date(2026, 1, 2),
        "bytes": b"\x00\xff",
        "nan": float("nan"),
        "half": "\ud800",
        "deep": [[[[[[[[[["bottom"]]]]]]]]]],
        3: True,
    }
    told = json.loads(json.dumps(truncate(odd), allow_nan=False))
    assert told["when"] == "2026-01-02"
    assert told["bytes"] == "2 bytes"
    assert told["nan"] == "nan"
    assert "bottom" not in str(told["deep"])
    assert told["3"] is True
