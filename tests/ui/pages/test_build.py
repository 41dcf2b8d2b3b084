"""The Build page: imported tables, and stored examples and pairs."""

import json

import pytest

from modelforge.errors import ConfigError, DataError
from ui.pages import build


def stored(forge, name):
    text = (forge.home.uploads / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_named_columns_are_detected():
    rows = build.imported_rows("a.csv", "answer,question,id\nyes,is it?,1\nno,was it?,2\n")
    assert rows[0] == {"question": "is it?", "answer": "yes"}


def test_otherwise_the_first_two_columns_are_used():
    rows = build.imported_rows("a.csv", "Frage;Antwort\nWo?;Dort.\nWer?;Ich.\n")
    assert rows == [
        {"question": "Wo?", "answer": "Dort."},
        {"question": "Wer?", "answer": "Ich."},
    ]


def test_one_column_is_too_few():
    with pytest.raises(DataError, match="one column"):
        build.imported_rows("a.csv", "Frage\nWo?\nWer?\n")


def test_examples_become_conversations(forge):
    rows = [
        {"system": "Be brief.", "question": " Wo? ", "answer": "Dort.\nJa."},
        {"system": "", "question": "", "answer": ""},
    ]
    name = build.store_examples(forge, "my own!", rows)
    assert name == "my-own.jsonl"
    assert stored(forge, name) == [
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Wo?"},
                {"role": "assistant", "content": "Dort.\nJa."},
            ]
        }
    ]


def test_a_half_example_is_named_and_nothing_is_stored(forge):
    rows = [{"question": "a", "answer": "b"}, {"question": "c", "answer": " "}]
    with pytest.raises(ConfigError, match="Example 2 has no answer"):
        build.store_examples(forge, "x", rows)
    assert not list(forge.home.uploads.glob("*"))


def test_an_empty_table_is_refused(forge):
    for rows in ([], None, [1], [{"question": 3}]):
        with pytest.raises(ConfigError, match="no example yet"):
            build.store_examples(forge, "x", rows)


def test_pairs_become_preference_rows(forge):
    pairs = [
        {"prompt": "p", "chosen": "good", "rejected": "bad"},
        {"prompt": "p", "chosen": "good", "rejected": ""},
    ]
    name = build.store_pairs(forge, "../../etc/pairs", pairs)
    assert name == "pairs.jsonl"
    assert stored(forge, name) == pairs[:1]
