"""Rows as people see them before a run: raw, read, and never too long to be sent."""

from __future__ import annotations

import datetime
import json

from modelforge.data.sources.load import MAX_ITEMS, MAX_TEXT_CHARS, truncate


def test_shortened_texts_and_lists_show_how_much_is_omitted():
    shortened = truncate(
        {"text": "x" * (MAX_TEXT_CHARS + 1500), "list": list(range(MAX_ITEMS + 5))}
    )
    assert shortened["text"].endswith("… (1,500 more characters)")
    assert shortened["list"][-1] == "… (5 more)"


def test_whatever_a_parquet_file_holds_can_be_sent_as_json():
    odd = {
        "when": datetime.date(2026, 1, 2),
        "bytes": b"\x00\xff",
        "nan": float("nan"),
        "half": "\ud800",
        "deep": [[[[[[[[[["bottom"]]]]]]]]]],
        3: True,
    }
    shortened = json.loads(json.dumps(truncate(odd), allow_nan=False))
    assert shortened["when"] == "2026-01-02"
    assert shortened["bytes"] == "2 bytes"
    assert shortened["nan"] == "nan"
    assert "bottom" not in str(shortened["deep"])
    assert shortened["3"] is True
