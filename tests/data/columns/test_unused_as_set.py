"""Columns that a source sets as unused: no reader, check or repair uses them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.schema.data import Source
from modelforge.data.checks.run import check_file
from modelforge.data.checks.summary import summarize
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.repair.copy import repair_file
from modelforge.data.sources.load import dataset_record, iterate_rows, load_sources, preview_rows
from modelforge.errors import DataError
from modelforge.paths import Home

CHAT = [{"role": "user", "content": "How high?"}, {"role": "assistant", "content": "12 metres."}]
PAIR = {"prompt": "How high is the oak?", "completion": "It is 12 metres high."}
TOOLS = [{"type": "function", "function": {"name": "measure", "parameters": {}}}]
BY_HAND = {"instruction_field": "prompt", "output_field": "completion"}
# A row, its columns that are set as unused, and other settings of the source.
CASES: dict[str, tuple[dict[str, Any], list[str], dict[str, Any]]] = {
    "system": (PAIR | {"system": "Be brief."}, ["system"], {}),
    "system, mapped by hand": (PAIR | {"system": "Be brief."}, ["system"], BY_HAND),
    "other case": (PAIR | {" System_Prompt": "Be brief."}, [" System_Prompt"], {}),
    "tools": ({"messages": CHAT, "tools": TOOLS}, ["tools"], {}),
    "tools, by type": ({"messages": CHAT, "functions": TOOLS}, ["functions"],
                       {"type": "conversation", "messages_field": "messages"}),
    "history": (PAIR | {"history": [["Is it an oak?", "Yes."]]}, ["history"], BY_HAND),
    "history and system": (
        PAIR | {"history": [["Is it an oak?", "Yes."]], "system": "Be brief."},
        ["history", "system"], {},
    ),
    "input": ({"instruction": "Translate.", "input": "oak", "output": "Eiche"}, ["input"], {}),
    "context": (PAIR | {"context": "The oak of Bonn."}, ["context"], {}),
    "label": (PAIR | {"label": True}, ["label"], {}),
    "another answer": ({"question": "How high?", "answer": "?", "response": "12 m."}, ["answer"],
                       {"type": "instruction", "instruction_field": "question"}),
    "prompt of a pair": (
        {"prompt": "x", "chosen": CHAT, "rejected": [CHAT[0], CHAT[1] | {"content": "No."}]},
        ["prompt"], {},
    ),
    "chosen": (PAIR | {"chosen": "a", "rejected": "b"}, ["chosen"], {}),
    "document": (
        {"document": "An oak.", "summary": "Oak.", "text": "The oak."}, ["document", "summary"], {},
    ),
    "images": (PAIR | {"images": ["oak.png"]}, ["images"], {}),
    "long texts": (
        PAIR | {"passage": "The oak by the river is the highest tree of the whole land."},
        ["passage"], {},
    ),
}  # fmt: skip


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, Any], str], str]:
    def make(row: dict[str, Any], name: str = "rows.jsonl") -> str:
        path = tmp_path / name
        path.write_text(f"{json.dumps(row)}\n" * 3, encoding="utf-8")
        return str(path)

    return make


def rows_of_a_run(source: Source, tmp_path: Path) -> list[Any]:
    """Return the rows that a worker reads, by the record of its run."""
    record = json.loads(json.dumps(dataset_record(load_sources([source], Home(tmp_path / "home")))))
    return [row for _, row in iterate_rows(record, seed=1)]


@pytest.mark.parametrize("name", CASES)
def test_a_run_trains_as_if_the_unused_columns_were_not_in_the_file(write, tmp_path, name):
    row, unused, settings = CASES[name]
    without = {column: value for column, value in row.items() if column not in unused}
    shorter = Source(path=write(without, "without.jsonl"), **settings)
    source = Source(path=write(row), unused_columns=unused, **settings)
    assert rows_of_a_run(source, tmp_path) == rows_of_a_run(shorter, tmp_path)
    (loaded,) = load_sources([source], Home(tmp_path / "home"))
    assert not set(unused) & set(loaded.mapping.fields.values())
    assert loaded.mapping.unused[: len(unused)] == unused
    assert f"Not used: {unused[0]}" in loaded.mapping.reason
    (shown, *_) = preview_rows([loaded])
    assert shown["raw"].keys() == row.keys()
    assert shown["reads"] == rows_of_a_run(shorter, tmp_path)[0]


@pytest.mark.parametrize("name", CASES)
def test_no_check_advises_to_use_a_column_that_is_set_as_unused(write, name):
    row, unused, settings = CASES[name]
    source = Source(path=write(row), unused_columns=unused, **settings)
    path = Path(source.path)
    for findings in (check_file(path, source).findings, summarize(path, source=source).findings):
        named = [one.what for one in findings if one.code in ("unused-columns", "media-columns")]
        assert not [what for what in named if any(f" {column} " in what for column in unused)]


def test_the_columns_are_used_without_the_setting(write, tmp_path):
    for name in ("system", "tools", "history", "input", "context"):
        row, unused, settings = CASES[name]
        (loaded,) = load_sources([Source(path=write(row), **settings)], Home(tmp_path / "home"))
        assert set(unused) <= set(loaded.mapping.fields.values()), name


def test_a_misspelt_column_is_named_with_the_right_one(write, tmp_path):
    source = Source(path=write(CASES["system"][0]), unused_columns=["sytem"])
    with pytest.raises(DataError) as refused:
        load_sources([source], Home(tmp_path / "home"))
    (problem,) = refused.value.problems
    assert "has no column sytem, which is set as unused_columns." in problem.what
    assert problem.remedy == "Did you mean system?"


def test_unused_columns_come_first_among_many(write, tmp_path):
    row = PAIR | {f"c{number}": number for number in range(40)} | {"system": "Be brief."}
    source = Source(path=write(row), unused_columns=["c39", "system"])
    (loaded,) = load_sources([source], Home(tmp_path / "home"))
    assert loaded.mapping.unused[:3] == ["c39", "system", "c0"]
    assert len(loaded.mapping.unused) == 20


def test_scores_that_are_set_as_unused_are_not_checked(write):
    row = {"prompt": "a?", "chosen": "b", "rejected": "c"}
    row |= {"score_chosen": 1, "score_rejected": 5}
    path = Path(write(row))
    source = Source(path=str(path))
    assert "scores-reversed" in {one.code for one in check_file(path, source).findings}
    source = Source(path=str(path), unused_columns=["score_chosen"])
    assert "scores-reversed" not in {one.code for one in check_file(path, source).findings}


def test_a_repaired_copy_is_read_with_the_same_setting(tmp_path):
    path, home = tmp_path / "wide.jsonl", Home(tmp_path / "home")
    row = PAIR | {"system": "Be brief."} | {f"c{number}": number for number in range(1_001)}
    path.write_text(f"{json.dumps(row)}\n", encoding="utf-8")
    source = Source(path=str(path), unused_columns=["system"])
    made = repair_file(path, home, ["many-columns"], source=source)
    copy = source.model_copy(update={"path": str(made.path)})
    (loaded,) = load_sources([copy], home)
    assert loaded.mapping.unused == ["system"]
    assert next(loaded.canonical_rows())["messages"][0]["role"] == "user"


def test_a_record_of_an_earlier_version_has_no_unused_columns():
    mapping = ColumnMapping.from_dict({"kind": "pair", "fields": {"prompt": "a", "answer": "b"}})
    assert mapping.unused_as_set == []
