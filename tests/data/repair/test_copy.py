import json
from pathlib import Path
from typing import Any

import pytest

from modelforge.data.checks.rules import RULES
from modelforge.data.checks.run import check_file
from modelforge.data.formats.read import read_rows
from modelforge.data.repair.copy import repair_file
from modelforge.data.repair.rows import REPAIRED
from modelforge.data.repair.text import parse_broken_line
from modelforge.errors import DataError
from modelforge.paths import Home


def put(tmp_path: Path, name: str, content: str) -> Path:
    path = tmp_path / name
    path.write_text(content, "utf-8")
    return path


def repaired(tmp_path: Path, name: str, content: str, *codes: str) -> list[dict[str, Any]]:
    done = repair_file(put(tmp_path, name, content), Home(tmp_path / "home"), codes or None)
    return [row.data for row in read_rows(done.path)]


def test_every_finding_with_a_repair_is_repaired() -> None:
    assert {code for code, rule in RULES.items() if rule.repair} == REPAIRED


MENDED = {
    '{"a": "b",}': {"a": "b"},
    '{"a": NaN, "b": -Infinity}': {"a": None, "b": None},
    '{"a": None, "b": True}': {"a": None, "b": True},
    "{'a': 'b', 'c': None}": {"a": "b", "c": None},
    '{"a": "x\ty"}': {"a": "x\ty"},
    '{1: "a", 2: "b"}': {"1": "a", "2": "b"},
    '"a text"': {"text": "a text"},
    '["q", "a"]': {"input": "q", "output": "a"},
    '{"a": "x \\ud800"}': {"a": "x \ufffd"},
    '{"a": "cut o': None,
    "null": None,
    "[1, 2, 3]": None,
}


@pytest.mark.parametrize("line", MENDED)
def test_a_broken_line_is_repaired_where_its_meaning_is_clear(line: str) -> None:
    assert parse_broken_line(line.encode()) == MENDED[line]


def test_repaired_lines_keep_their_position(tmp_path: Path) -> None:
    text = "".join(f'{{"input": "q{n}", "output": "a{n}"}}\n' for n in range(12))
    text = text.replace('"a3"}', '"a3",}')
    rows = repaired(tmp_path, "a.jsonl", text)
    assert [row["output"] for row in rows] == [f"a{n}" for n in range(12)]


CHAT = {
    "system twice": ("suSua", "sua"),
    "user twice": ("uua", "ua"),
    "assistant first": ("saua", "sua"),
    "no last answer": ("uau", "ua"),
}
ROLES = {"s": "system", "S": "system", "u": "user", "a": "assistant"}


@pytest.mark.parametrize("case", CHAT)
@pytest.mark.parametrize("sharegpt", [False, True])
def test_messages_are_put_in_order_with_the_keys_of_the_file(
    tmp_path: Path, case: str, sharegpt: bool
) -> None:
    given, wanted = CHAT[case]
    role, content_key = ("from", "value") if sharegpt else ("role", "content")
    column = "conversations" if sharegpt else "messages"

    def line(marks: str, n: int) -> str:
        turns = [{role: ROLES[mark], content_key: f"{mark}{n}"} for mark in marks]
        return json.dumps({column: turns, "id": n}) + "\n"

    text = "".join(line("ua", n) for n in range(11)) + line(given, 11)
    codes = [
        "several-system-messages",
        "system-message-not-first",
        "consecutive-user-messages",
        "assistant-message-first",
        "ends-without-answer",
    ]
    rows = repaired(tmp_path, "a.jsonl", text, *codes)
    assert [turn[role] for turn in rows[11][column]] == [ROLES[mark] for mark in wanted]
    assert rows[11]["id"] == 11
    assert rows[0] == json.loads(line("ua", 0))


def test_only_the_requested_codes_are_repaired(tmp_path: Path) -> None:
    lines = [f'{{"input": "q{n}", "output": "a{n} x@example.org <b>y</b>"}}\n' for n in range(12)]
    text = "".join([*lines, lines[0]])
    masked = repaired(tmp_path, "a.jsonl", text, "e-mail")
    assert len(masked) == 13
    assert masked[2]["output"] == "a2 [e-mail] <b>y</b>"
    assert len(repaired(tmp_path, "b.jsonl", text, "duplicate-rows")) == 12
    assert repaired(tmp_path, "c.jsonl", text, "html")[1]["output"] == "a1 x@example.org y"
    assert repaired(tmp_path, "d.jsonl", text)[1]["output"] == "a1 x@example.org <b>y</b>"


def test_a_row_of_which_a_repair_leaves_nothing_is_not_in_the_copy(tmp_path: Path) -> None:
    lines = [f'{{"input": "q{n}", "output": "<b>a{n}</b>"}}\n' for n in range(12)]
    text = "".join([*lines, '{"input": "q12", "output": "<br><br>"}\n'])
    done = repair_file(
        put(tmp_path, "a.jsonl", text), Home(tmp_path / "home"), ["html", "empty-answer"]
    )
    assert [row.data["output"] for row in read_rows(done.path)] == [f"a{n}" for n in range(12)]
    assert done.removed == done.changes["empty-answer"] == 1


def test_a_copy_never_replaces_another(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    path = put(tmp_path, "a.csv", "input;output\nq;a\nr;b\n")
    first, second = repair_file(path, home), repair_file(path, home)
    assert (first.dataset, second.dataset) == ("a.repaired.jsonl", "a.repaired-2.jsonl")
    assert first.changes == {"other-delimiter": 1}
    again = repair_file(first.path, home)
    assert again.dataset == "a.repaired-3.jsonl", "a copy of a copy is one of the same file"


def test_a_file_with_nothing_to_repair_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    for name, text in {"a.jsonl": "{oops\n", "b.jsonl": "", "c.csv": "input,output\n"}.items():
        with pytest.raises(DataError):
            repair_file(put(tmp_path, name, text), home)
    assert not list(home.uploads.glob("*"))


def test_lines_are_repaired_before_columns_are_detected(tmp_path: Path) -> None:
    lines = [f'{{"frage": "q{n}", "antwort": "a{n}"}}' for n in range(4)]
    whole = "\n".join(lines)
    rows = repaired(tmp_path, "a.jsonl", whole.replace('"a1"}', '"a1"'))
    assert [row["antwort"] for row in rows] == ["a0", "a2", "a3"]
    with pytest.raises(DataError, match="do not match any kind"):
        repaired(tmp_path, "b.jsonl", whole)


def test_a_swapped_preference_is_swapped_back(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"q{n}", "chosen": "good", "rejected": "bad", "score_chosen": 1 + n,
         "score_rejected": 2}
        for n in range(12)
    ]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows)
    assert {f.code for f in check_file(put(tmp_path, "x.jsonl", text)).findings} >= {
        "scores-reversed"
    }
    first = repaired(tmp_path, "a.jsonl", text, "scores-reversed")[0]
    assert (first["chosen"], first["score_chosen"], first["score_rejected"]) == ("bad", 2, 1)
