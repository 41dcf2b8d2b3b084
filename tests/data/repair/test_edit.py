"""Rows are left out or changed in a copy, by the numbers that a run gives them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelforge.config.schema.data import Source
from modelforge.data.formats.read import read_rows
from modelforge.data.repair.edit import (
    RowEdits,
    as_texts,
    changed_row,
    edit_sources,
    find_rows,
    text_label,
)
from modelforge.data.sources.load import iterate_rows, load_sources
from modelforge.errors import ConfigError, DataError, NotFoundError
from modelforge.paths import Home

SEED = 42


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def put(tmp_path: Path, name: str = "rows.jsonl", count: int = 6, empty: tuple[int, ...] = ()):
    rows = [
        {"question": f"q{number}", "answer": "" if number in empty else f"a{number}", "n": number}
        for number in range(1, count + 1)
    ]
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def loaded(home: Home, *paths: Path, **options):
    return load_sources([Source(path=str(path), **options) for path in paths], home)


def read(path: str):
    return [row.data for row in read_rows(Path(path))]


def test_the_numbers_are_those_of_the_rows_of_a_run(tmp_path, home):
    """Unusable rows have no number; samples and weights count as a run draws them."""
    first = loaded(home, put(tmp_path, "first.jsonl", 9, empty=(2,)), samples=5, weight=1.5)
    second = loaded(home, put(tmp_path, "second.jsonl", 4), weight=2)
    sources = [*first, *second]
    record = {"sources": [source.as_entry() for source in sources]}
    questions = [row["messages"][0]["content"] for _, row in iterate_rows(record, SEED)]
    found = find_rows(sources, SEED, range(1, len(questions) + 1))
    assert [found[number].data["question"] for number in sorted(found)] == questions
    assert len(questions) > 12


def test_rows_are_left_out_and_changed_in_a_copy(tmp_path, home):
    path = put(tmp_path, empty=(2,))
    before = path.read_bytes()
    edits = RowEdits(frozenset({2}), {4: {"answer": "A new one.", "n": "[5]"}})
    [[copy]] = edit_sources(loaded(home, path), home, edits, SEED)
    rows = read(copy)
    # Number 2 is q3, because q2 has no answer; number 4 is q5.
    assert [row["question"] for row in rows] == ["q1", "q2", "q4", "q5", "q6"]
    assert rows[3] == {"question": "q5", "answer": "A new one.", "n": [5]}
    assert path.read_bytes() == before
    assert Path(copy).parent == home.uploads
    assert [entry.name for entry in home.uploads.iterdir()] == [Path(copy).name]


def test_a_copy_of_joined_rows_has_the_whole_conversations(tmp_path, home):
    path = tmp_path / "chains.jsonl"
    rows = [
        {"id": n, "parent_id": n - 1 if n % 2 else None, "prompt": f"q{n}", "completion": f"a{n}"}
        for n in range(6)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    edits = RowEdits(frozenset({1}), {3: {"completion": "New."}})
    [[copy]] = edit_sources(loaded(home, path), home, edits, SEED)
    (source,) = loaded(home, Path(copy))
    texts = [[each["content"] for each in row["messages"]] for row in source.canonical_rows()]
    assert texts == [["q2", "a2", "q3", "a3"], ["q4", "a4", "q5", "New."]]


def test_the_same_edits_make_one_copy_and_others_another(tmp_path, home):
    sources = loaded(home, put(tmp_path))
    names = [edit_sources(sources, home, RowEdits(frozenset(out)), SEED) for out in ({1}, {1}, {2})]
    assert names[0] == names[1] != names[2]
    assert len(list(home.uploads.iterdir())) == 2


def test_a_copy_of_a_copy_has_a_short_name(tmp_path, home):
    [[copy]] = edit_sources(loaded(home, put(tmp_path)), home, RowEdits(frozenset({1})), SEED)
    again = loaded(home, Path(copy))
    [[second]] = edit_sources(again, home, RowEdits(frozenset({1})), SEED)
    assert Path(second).name.count(".edited-") == 1
    assert [row["question"] for row in read(second)] == ["q3", "q4", "q5", "q6"]


def test_files_without_edits_keep_their_path(tmp_path, home):
    first, second = put(tmp_path, "first.jsonl", 3), put(tmp_path, "second.jsonl", 3)
    files = edit_sources(loaded(home, first, second), home, RowEdits(frozenset({5})), SEED)
    assert files[0] == [str(first)]
    assert [row["question"] for row in read(files[1][0])] == ["q1", "q3"]


def test_a_table_becomes_a_copy_with_the_same_columns(tmp_path, home):
    path = tmp_path / "table.csv"
    path.write_text("question,answer\nq1,a1\nq2,a2\n", "utf-8")
    [[copy]] = edit_sources(loaded(home, path), home, RowEdits(frozenset({1})), SEED)
    assert read(copy) == [{"question": "q2", "answer": "a2"}]


@pytest.mark.parametrize(
    ("edits", "error", "text"),
    [
        (RowEdits(frozenset({7})), NotFoundError, "Row 7 does not exist; the data has 6 rows."),
        (RowEdits(frozenset(range(1, 7))), DataError, "would have no row left"),
        (RowEdits(changed={1: {"n": "{"}}), ConfigError, "n of row 1 is not valid JSON"),
        (RowEdits(changed={1: {"other": "x"}}), ConfigError, "has no column 'other'"),
        (RowEdits(frozenset(range(1, 10_002))), ConfigError, "10,001 rows are more than"),
    ],
)
def test_wrong_edits_are_refused_and_leave_nothing(tmp_path, home, edits, error, text):
    with pytest.raises(error) as caught:
        edit_sources(loaded(home, put(tmp_path)), home, edits, SEED)
    assert text in caught.value.problems[0].what
    assert not home.uploads.exists() or not list(home.uploads.iterdir())


def test_messages_are_texts_of_their_own(tmp_path, home):
    path = tmp_path / "chats.jsonl"
    messages = [{"role": "user", "content": "Hi", "n": 1}, {"from": "gpt", "value": "Hello"}]
    path.write_text(json.dumps({"messages": messages}), "utf-8")
    [[row]] = [find_rows(loaded(home, path), SEED, [1]).values()]
    assert as_texts(row.data) == {"messages[0]": "Hi", "messages[1]": "Hello"}
    assert text_label(row.data, "messages[1]") == ("messages: gpt", False)
    changed = changed_row(row, {"messages[0]": "[1]", "messages[1]": "Hello"})
    assert changed["messages"] == [{"role": "user", "content": "[1]", "n": 1}, messages[1]]
    assert row.data["messages"] == messages
    for name in ("messages[2]", "messages[x]", "other[0]"):
        with pytest.raises(ConfigError, match="has no column"):
            changed_row(row, {name: "x"})


def test_a_row_is_edited_as_text():
    row = {"question": "é\n", "tags": ["a", 1], "none": None, "flag": True}
    texts = {"question": "é\n", "tags": '["a", 1]', "none": "", "flag": "true"}
    assert as_texts(row) == texts
    assert [text_label(row, name)[1] for name in row] == [False, True, False, True]
