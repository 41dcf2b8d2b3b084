"""What people write themselves: tables read, examples and pairs kept as JSONL."""

import json

import pytest

from modelforge.errors import ConfigError, DataError
from modelforge.forge import Forge
from modelforge.paths import Home
from ui.pages import build


@pytest.fixture
def forge(tmp_path):
    forge = Forge(Home(tmp_path / "home"))
    yield forge
    forge.close()


def kept(forge, name):
    text = (forge.home.uploads / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_named_columns_are_found():
    rows = build.imported("a.csv", "answer,question,id\nyes,is it?,1\nno,was it?,2\n")
    assert rows[0] == {"question": "is it?", "answer": "yes"}


def test_of_unknown_columns_the_first_two_are_taken():
    rows = build.imported("a.csv", "Frage;Antwort\nWo?;Dort.\nWer?;Ich.\n")
    assert rows == [
        {"question": "Wo?", "answer": "Dort."},
        {"question": "Wer?", "answer": "Ich."},
    ]


def test_one_column_is_too_few():
    with pytest.raises(DataError, match="one column"):
        build.imported("a.csv", "Frage\nWo?\nWer?\n")


def test_examples_become_conversations(forge):
    rows = [
        {"system": "Be brief.", "question": " Wo? ", "answer": "Dort.\nJa."},
        {"system": "", "question": "", "answer": ""},
    ]
    name = build.saved_examples(forge, "my own!", rows)
    assert name == "my-own.jsonl"
    assert kept(forge, name) == [
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Wo?"},
                {"role": "assistant", "content": "Dort.\nJa."},
            ]
        }
    ]


def test_a_half_example_is_named_and_nothing_is_kept(forge):
    rows = [{"question": "a", "answer": "b"}, {"question": "c", "answer": " "}]
    with pytest.raises(ConfigError, match="Example 2 has no answer"):
        build.saved_examples(forge, "x", rows)
    assert not list(forge.home.uploads.glob("*"))


def test_nothing_written_is_refused_in_words(forge):
    for rows in ([], None, [1], [{"question": 3}]):
        with pytest.raises(ConfigError, match="no example yet"):
            build.saved_examples(forge, "x", rows)


def test_pairs_become_preferences(forge):
    pairs = [
        {"prompt": "p", "chosen": "good", "rejected": "bad"},
        {"prompt": "p", "chosen": "good", "rejected": ""},
    ]
    name = build.saved_pairs(forge, "../../etc/pairs", pairs)
    assert name == "pairs.jsonl"
    assert kept(forge, name) == pairs[:1]
