import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from modelforge.data.canonical.convert import read_canonical
from modelforge.data.checks.summary import summarize
from modelforge.errors import DataError


def write(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def pairs(count: int) -> list[dict[str, Any]]:
    return [{"input": f"question {n}", "output": f"answer {n}"} for n in range(count)]


def test_a_clean_file_is_counted_whole_and_has_no_findings(tmp_path: Path) -> None:
    path = write(tmp_path, pairs(250))
    seen = summarize(path)
    assert (seen.rows, seen.skipped, seen.findings) == (250, 0, [])
    assert seen.columns == ["input", "output"]
    assert len(seen.examples) == 20
    assert seen.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert seen.longest_chars >= seen.mean_chars > 0


@pytest.mark.parametrize("has_prompt", [True, False])
def test_the_longest_row_of_pairs_is_their_longer_side(tmp_path: Path, has_prompt: bool) -> None:
    """Each side is a sequence of its own; the mean counts the text that is trained on."""
    rows: list[dict[str, Any]] = []
    for n in range(9):
        asked = {"role": "user", "content": f"Which {n}?"}
        sides = {"chosen": f"{n}" + "a" * 999, "rejected": f"{n}" + "b" * 899}
        answers = {side: {"role": "assistant", "content": text} for side, text in sides.items()}
        whole = {side: [asked, answer] for side, answer in answers.items()}
        rows.append({"prompt": "Which?", **sides} if has_prompt else whole)
    seen = summarize(write(tmp_path, rows))
    assert seen.mapping.kind == "preference"
    assert 1000 <= seen.longest_chars <= 1050
    assert seen.mean_chars >= 1900


def test_what_is_counted_is_what_the_worker_gets(tmp_path: Path) -> None:
    rows = pairs(150)
    rows[30]["output"] = ""
    path = write(tmp_path, rows)
    seen = summarize(path)
    got = list(read_canonical(path, seen.mapping))
    assert len(got) == seen.rows == 149
    assert got[:20] == seen.examples


def test_a_limit_ends_the_summary_early(tmp_path: Path) -> None:
    path = write(tmp_path, pairs(300))
    assert summarize(path, limit=5).rows == 5
    assert summarize(path, limit=200).rows == 200


def test_each_finding_is_counted_once_with_its_first_lines(tmp_path: Path) -> None:
    rows = pairs(40)
    for line in (4, 9, 12, 13, 14, 15, 16):
        rows[line - 1]["output"] = " "
    rows[20] = rows[0]
    rows[21] = {"input": "same", "output": " same "}
    del rows[22]["output"]
    rows[23]["output"] = ["a list"]
    findings = {found.code: found for found in summarize(write(tmp_path, rows)).findings}
    assert set(findings) == {
        "empty-answer",
        "duplicate-rows",
        "answer-is-question",
        "missing-field",
        "list-column",
    }
    assert findings["empty-answer"].what == (
        "7 rows have an empty completion and are skipped: lines 4, 9, 12, 13, 14 and 2 more."
    )
    assert findings["duplicate-rows"].what == "1 row repeats an earlier one: line 21."
    assert all(found.level == "caution" for found in findings.values())
    assert all(found.where == "dataset" for found in findings.values())


def test_unknown_roles_and_conversations_without_an_answer_are_reported(
    tmp_path: Path,
) -> None:
    good = [
        {"messages": [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "b"}]}
        for n in range(12)
    ]
    rows = [
        *good,
        {"messages": [{"role": "narrator", "content": "a"}]},
        {"messages": [{"role": "user", "content": "a"}]},
    ]
    seen = summarize(write(tmp_path, rows))
    assert [found.code for found in seen.findings] == ["unknown-role", "no-assistant-message"]
    assert seen.rows == 12


def test_fewer_than_ten_rows_are_a_caution(tmp_path: Path) -> None:
    assert [found.code for found in summarize(write(tmp_path, pairs(9))).findings] == ["few-rows"]
    assert summarize(write(tmp_path, pairs(10))).findings == []


def test_a_file_without_a_usable_row_is_refused_with_the_causes(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        summarize(write(tmp_path, [{"input": "a", "output": ""}] * 3))
    assert "no usable row among 3" in caught.value.problems[0].what
    assert "lines 1, 2, 3" in caught.value.problems[1].what


@pytest.mark.parametrize("name", ["a.csv", "a.json"])
def test_a_file_with_a_header_but_no_rows_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("input,output\n" if name == "a.csv" else "[ ]\n")
    with pytest.raises(DataError, match="has no rows"):
        summarize(path)


def test_a_broken_line_at_the_end_refuses_the_whole_file(tmp_path: Path) -> None:
    path = write(tmp_path, pairs(5000))
    path.write_text(path.read_text() + '\n{"input": oops}')
    with pytest.raises(DataError, match="line 5001, column 11"):
        summarize(path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    row = json.dumps({"input": "q", "output": "word " * 400})
    path = tmp_path / name
    text = "\n".join([row] * 8000) if name == "a.jsonl" else f"[{','.join([row] * 8000)}]"
    path.write_text(text)
    tracemalloc.start()
    summarize(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(text) > 15 * 2**20
    assert peak < 6 * 2**20
