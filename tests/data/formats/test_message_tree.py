"""Message trees are joined to conversations; what belongs to none is skipped by name."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelforge.config.schema.data import Source
from modelforge.data.canonical.convert import read_canonical
from modelforge.data.checks import parallel
from modelforge.data.checks.run import check_file
from modelforge.data.checks.summary import summarize
from modelforge.data.formats import tree_nodes
from modelforge.data.formats.read import read_rows
from modelforge.data.repair.copy import repair_file
from modelforge.data.sources.load import load_sources
from modelforge.paths import Home

Data = dict[str, Any]


def message(mark: str, parent: str | None = None, **more: Any) -> Data:
    """A message named q1, a2 …: q of a prompter, a of an assistant."""
    role = "prompter" if mark[0] == "q" else "assistant"
    return {"message_id": mark, "parent_id": parent, "role": role, "text": f"text {mark}"} | more


def write(tmp_path: Path, rows: list[Data], name: str = "a.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def paths(path: Path) -> list[str]:
    """Return the texts of each conversation that is trained."""
    mapping = summarize(path).mapping
    rows = (row["messages"] for row in read_canonical(path, mapping))
    return [" ".join(each["content"].removeprefix("text ") for each in row) for row in rows]


TREE = [
    message("q1"),
    message("a1", "q1"),
    message("a2", "q1"),
    message("q2", "a1"),
    message("q3", "a1"),
    message("a3", "q2"),
    message("q4", "a2"),
]


def test_every_answer_that_no_answer_follows_ends_a_conversation(tmp_path: Path) -> None:
    assert paths(write(tmp_path, TREE)) == ["q1 a1 q2 a3", "q1 a2"]


def test_of_replies_with_a_rank_the_best_is_used(tmp_path: Path) -> None:
    ranked = [dict(each) for each in TREE]
    ranked[1]["rank"], ranked[2]["rank"] = 1.0, 0.0
    path = write(tmp_path, ranked)
    assert paths(path) == ["q1 a2"]
    assert not [each for each in check_file(path).findings if each.level == "caution"][1:]


def test_replies_before_their_parents_and_other_spellings_are_joined(tmp_path: Path) -> None:
    rows = [
        {"id": 2, "parent_id": 1.0, "role": "assistant", "content": "text a1"},
        {"id": 1, "parent_id": None, "role": "user", "content": "text q1"},
    ]
    assert paths(write(tmp_path, rows)) == ["q1 a1"]
    table = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(TREE), table)
    assert paths(table) == ["q1 a1 q2 a3", "q1 a2"]
    sheet = tmp_path / "a.csv"
    sheet.write_text("message_id,parent_id,role,text\n1,,prompter,text q1\n2,1,assistant,text a1\n")
    assert paths(sheet) == ["q1 a1"]


def test_roots_without_the_key_of_a_parent_are_roots(tmp_path: Path) -> None:
    roots = [message(f"q{number}") for number in range(3)]
    for root in roots:
        del root["parent_id"]
    assert paths(write(tmp_path, [*roots, message("a1", "q1")])) == ["q1 a1"]


def test_a_tree_in_one_row_is_read(tmp_path: Path) -> None:
    def nested(mark: str, *replies: Data) -> Data:
        return message(mark, replies=list(replies))

    prompt = nested("q1", nested("a1", nested("q2", nested("a3"))), nested("a2"))
    row = {"message_tree_id": "q1", "tree_state": "ready_for_export", "prompt": prompt}
    assert paths(write(tmp_path, [row, row])) == ["q1 a1 q2 a3", "q1 a2"] * 2


GOOD = [message("q1"), message("a1", "q1")]
# Rows, and the lines that are skipped.
LEFT_OUT: dict[str, tuple[list[Data], list[int]]] = {
    "orphan-message": ([*GOOD, message("a8", "q9"), message("q8", "a8")], [3, 4]),
    "message-cycle": ([message("q8", "a8"), message("a8", "q8"), *GOOD], [1, 2]),
    "duplicate-message": ([*GOOD, message("a1", "q1", text="other")], [3]),
    "deleted-message": ([*GOOD, message("a8", "q1", deleted=True), message("q8", "a8")], [3, 4]),
    "no-assistant-message": ([message("q8"), *GOOD], [1]),
}


@pytest.mark.parametrize("code", LEFT_OUT)
def test_what_belongs_to_no_conversation_is_skipped_by_name(tmp_path: Path, code: str) -> None:
    rows, lines = LEFT_OUT[code]
    path = write(tmp_path, rows)
    (found,) = [each for each in check_file(path).findings if each.code == code]
    assert sorted(line for line, _ in found.places) == lines
    assert found.level == "caution"
    assert code in {each.code for each in summarize(path).findings}
    assert paths(path) == ["q1 a1"]


def test_the_number_of_conversations_is_said_and_a_repair_writes_them(tmp_path: Path) -> None:
    path = write(tmp_path, [*TREE, message("a8", "q9")])
    for findings in (check_file(path).findings, summarize(path).findings):
        (found,) = [each for each in findings if each.code == "message-tree"]
        assert "they are 2 conversations." in found.what
    done = repair_file(path, Home(tmp_path / "home"))
    assert (done.rows, done.removed) == (2, 1)
    assert [row.data.keys() for row in read_rows(done.path)] == [{"messages": None}.keys()] * 2


def test_a_broken_line_of_a_tree_is_repaired_before_the_messages_are_joined(tmp_path: Path) -> None:
    lines = [json.dumps(each) for each in TREE]
    lines[1] += ","
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))
    done = repair_file(path, Home(tmp_path / "home"))
    assert paths(done.path) == ["q1 a1 q2 a3", "q1 a2"]


def test_a_large_tree_is_counted_as_a_whole_and_a_too_large_one_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, TREE)
    monkeypatch.setattr(parallel, "LARGE_BYTES", 10)
    assert check_file(path).stats.rows == 2
    monkeypatch.setattr(tree_nodes, "MAX_MESSAGES", 6)
    (found,) = check_file(path).findings
    assert (found.code, found.level, found.repair) == ("tree-too-large", "blocker", None)
    assert "more than 6 messages" in found.what
    assert "one conversation per row" in found.remedy


def test_a_preview_shows_why_a_message_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, [*TREE, message("a8", "q9")])
    (loaded,) = load_sources([Source(path=str(path))], Home(tmp_path / "home"))
    assert loaded.rows == 2
    last = list(read_rows(path))[-1]
    assert last.line == 8
    assert last.data == {
        "messages": {"message_id": "a8", "parent_id": "q9", "left_out": "orphan-message"}
    }
