"""Questions with several answers are noticed, and files that are not text are refused."""

import json
import random
from pathlib import Path

import pytest

from modelforge.data.checks import counters
from modelforge.data.checks.run import check_file


def findings_of(path: Path) -> dict[str, object]:
    return {finding.code: finding for finding in check_file(path).findings}


def write(path: Path, pairs: list[tuple[str, str]]) -> Path:
    rows = [{"question": question, "answer": answer} for question, answer in pairs]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def test_rows_that_answer_a_question_differently_are_a_note_with_their_lines(tmp_path):
    pairs = [("Where?", "Here."), *((f"When {n}?", "Now.") for n in range(12))]
    pairs += [("Where?", "Here."), ("Where?", "There."), ("Where?", "There."), ("Where?", "Gone.")]
    found = findings_of(write(tmp_path / "rows.jsonl", pairs))
    note = found["other-answers"]
    assert note.level == "note"
    assert note.what == (
        "2 rows have a question that an earlier row answers differently: lines 15, 17."
    )
    assert note.repair is None
    assert found["duplicate-rows"].count == 2


def test_different_questions_and_equal_rows_are_not(tmp_path):
    pairs = [(f"Where {n % 6}?", f"Here {n % 6}.") for n in range(12)]
    assert "other-answers" not in findings_of(write(tmp_path / "rows.jsonl", pairs))


def test_very_large_files_are_not_searched(tmp_path, monkeypatch):
    monkeypatch.setattr(counters, "MAX_PROMPTS", 3)
    pairs = [("Where?", f"Here {n}.") for n in range(12)]
    assert "other-answers" not in findings_of(write(tmp_path / "rows.jsonl", pairs))


@pytest.mark.parametrize("name", ["photo.csv", "photo.jsonl", "photo.txt", "photo.md"])
@pytest.mark.parametrize("first", [0, 1])
def test_a_binary_file_is_named_and_has_no_repair(tmp_path, name, first):
    path = tmp_path / name
    path.write_bytes(bytes(random.Random(3).choices(range(first, 256), k=20_000)))
    (finding,) = check_file(path).findings
    assert (finding.code, finding.level, finding.repair) == ("unsupported-format", "blocker", None)
    assert finding.what == "It is not a text file."


@pytest.mark.parametrize(
    "text",
    [
        "question,answer\n" + "".join(f"Wie hoch {n}?,ÄÖÜ {n} m\n" for n in range(20)),
        "text\n" + "\x1b[31mred\x1b[0m lines of a terminal log\n" * 20,
        "text\n" + "один два три\n" * 20,
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1251"])
def test_text_in_any_encoding_is_not_refused(tmp_path, text, encoding):
    path = tmp_path / "rows.csv"
    path.write_bytes(text.encode(encoding, errors="replace"))
    assert "unsupported-format" not in findings_of(path)
