import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.schema.data import Source
from modelforge.data.checks import parallel
from modelforge.data.checks.findings import ReadErrors
from modelforge.data.checks.rows import CheckOptions
from modelforge.data.checks.rules import RULES
from modelforge.data.checks.run import check_file, check_sources
from modelforge.data.checks.summary import summarize
from modelforge.data.checks.text import detect_script
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.formats.sniff import sniff_file
from modelforge.data.repair.copy import repair_file
from modelforge.errors import DataError
from modelforge.paths import Home

PAIR = ColumnMapping("pair", {"prompt": "input", "answer": "output"})


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", "utf-8")
    return path


def pairs(count: int) -> list[dict[str, Any]]:
    return [{"input": f"question {n}?", "output": f"answer {n}"} for n in range(count)]


def test_a_clean_file_has_no_findings_and_its_statistics(tmp_path: Path) -> None:
    diagnosis = check_file(write(tmp_path / "a.jsonl", pairs(30)))
    assert diagnosis.findings == []
    assert not diagnosis.blocked
    stats = diagnosis.stats
    assert (stats.rows, stats.skipped, stats.mean_turns) == (30, 0, 2.0)
    assert stats.scripts == {"Latin": 1.0}
    assert sum(count for _, _, count in stats.histogram) == 30
    assert json.loads(json.dumps(diagnosis.as_dict()))["stats"]["rows"] == 30


SIGNS = {
    "e-mail": "Write to jane.doe@example.org today",
    "phone-number": "Ring +49 170 1234567 now",
    "secret-key": "Use sk-abcdefghijklmnopqrstuvwx for it",
    "html": "This is <b>bold</b>&nbsp;text",
    "control-characters": "A bell \x07 rings",
    "replaced-characters": "A lost \ufffd letter",
    "near-empty-answer": " n/a ",
}


@pytest.mark.parametrize("code", SIGNS)
def test_each_finding_is_counted_once_a_row_without_private_data(tmp_path: Path, code: str) -> None:
    rows = pairs(20)
    for at in (3, 9):
        rows[at]["output"] = f"{SIGNS[code]}{at if code != 'near-empty-answer' else ''}"
    diagnosis = check_file(write(tmp_path / "a.jsonl", rows))
    found = {each.code: each for each in diagnosis.findings}
    assert found[code].count == 2
    assert [line for line, _ in found[code].places] == [4, 10]
    assert "example.org" not in str(diagnosis.as_dict())
    assert "1234567" not in str(diagnosis.as_dict())
    assert "sk-abc" not in str(diagnosis.as_dict())


@pytest.mark.parametrize(
    "text",
    ["1 + 1 = 2", "Call me at 12:30", "a < b & c", "version 2024-11-21", "me@home", "task-x"],
)
def test_similar_texts_are_not_reported(tmp_path: Path, text: str) -> None:
    rows = pairs(20)
    rows[5]["output"] = text
    assert check_file(write(tmp_path / "a.jsonl", rows)).findings == []


def test_control_characters_used_as_separators_are_found_in_texts(tmp_path: Path) -> None:
    rows = pairs(20)
    rows[5]["output"] = "one \x01 two"
    (found,) = check_file(write(tmp_path / "a.jsonl", rows)).findings
    assert (found.code, found.places) == ("control-characters", [(6, None)])


def test_rows_in_the_evaluation_data_are_reported(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", pairs(30))
    held = write(tmp_path / "held.jsonl", [*pairs(3), {"input": "new", "output": "other"}])
    home = Home(tmp_path / "home")
    (diagnosis,) = check_sources([Source(path=str(train))], home, [Source(path=str(held))])
    (found,) = diagnosis.findings
    assert (found.code, found.count) == ("leaked-rows", 3)


@pytest.mark.parametrize(
    ("text", "script"),
    [("Grüße aus Köln", "Latin"), ("Привет, мир", "Cyrillic"), ("你好，世界", "Han"),
     ("こんにちは世界", "Kana"), ("مرحبا", "Arabic"), ("안녕하세요", "Hangul"), ("12 + 3", "none"),
     ("🙂🙂", "none"), ("🙂" * 40, "none"), ("＝" * 40, "none"),
     ("नमस्ते", "Devanagari"), ("Γειά σου", "Greek")],
)  # fmt: skip
def test_the_script_of_a_completion_is_detected(text: str, script: str) -> None:
    assert detect_script(text) == script


def large(tmp_path: Path) -> Path:
    rows: list[Any] = pairs(4000)
    rows[3000] = rows[1]
    rows[3500] = {"input": "x", "output": ""}
    path = write(tmp_path / "large.jsonl", rows)
    text = path.read_text().splitlines()
    text[1999] = '{"input": oops}'
    text[3800] = "[1]"
    path.write_text("\n".join(text) + "\n")
    return path


def test_two_processes_count_what_one_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = large(tmp_path)
    alone = ReadErrors()
    one = parallel.count_rows(sniff_file(path), CheckOptions(PAIR), alone)
    monkeypatch.setattr(parallel, "LARGE_BYTES", 1000)
    together = ReadErrors()
    two = parallel.count_rows(sniff_file(path), CheckOptions(PAIR), together)
    assert two.lines == 4000
    assert (two.rows, two.skipped, two.chars, two.length_histogram) == (
        one.rows, one.skipped, one.chars, one.length_histogram,
    )  # fmt: skip
    assert two.counts == one.counts == {"empty-answer": 1, "duplicate-rows": 1}
    assert two.places == one.places
    assert together.counts == alone.counts
    assert [(error.code, error.line, error.column) for error in together.kept] == [
        (error.code, error.line, error.column) for error in alone.kept
    ]
    assert [str(error) for error in together.kept] == [str(error) for error in alone.kept]


def test_the_summary_of_a_large_file_equals_that_of_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pairs(3000)
    rows[7]["output"] = ""
    rows[9] = rows[8]
    path = write(tmp_path / "a.jsonl", rows)
    small = summarize(path)
    monkeypatch.setattr(parallel, "LARGE_BYTES", 1000)
    assert summarize(path) == small


def test_duplicates_among_very_many_rows_are_found_in_order() -> None:
    from array import array

    from modelforge.data.checks.counters import duplicate_lines

    prints = array("Q", range(150_000))
    prints[149_999] = prints[140_000] = prints[5]
    assert duplicate_lines(prints, array("Q", range(1, 150_001))) == [140_001, 150_000]


def _wholes() -> dict[str, bytes]:
    rows = [
        *pairs(6),
        {"input": "größer?", "output": 'a "quoted" \\ word'},
        {"input": "tool", "output": "<b>x</b> a@b.co +49 170 1234567"},
    ]
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    compared = {"prompt": "q", "chosen": "a", "rejected": "b"}
    table = "input,output\n" + "".join(f'"{r["input"]}","x, {n}"\n' for n, r in enumerate(rows))
    return {
        "a.jsonl": "\n".join(json.dumps(row) for row in rows).encode(),
        "b.json": json.dumps(rows, indent=1).encode(),
        "c.csv": table.encode(),
        "d.jsonl": "\n".join([json.dumps({"messages": turns})] * 9).encode(),
        "e.jsonl": "\n".join([json.dumps(compared)] * 9).encode(),
        "f.md": b"# One\n\ntext\n\n## Two\n\nmore\n",
        "g.jsonl": gzip.compress("\n".join(json.dumps(row) for row in rows).encode()),
        "h.jsonl": "\n".join(json.dumps(row) for row in rows).encode("utf-16"),
    }


@pytest.mark.parametrize("name", _wholes())
def test_no_damage_makes_the_checks_or_the_repair_crash(tmp_path: Path, name: str) -> None:
    whole = _wholes()[name]
    draw = random.Random(7)
    path = tmp_path / name
    refused = 0
    for number in range(80):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(content))
            content[at : at + draw.randint(0, 6)] = draw.randbytes(draw.randint(0, 4))
        path.write_bytes(content)
        diagnosis = check_file(path)
        assert all(found.what.endswith(".") for found in diagnosis.findings)
        try:
            done = repair_file(path, Home(tmp_path / str(number)), tuple(RULES))
            # Only a user can name unknown columns.
            unknown = {"unknown-columns"} & {found.code for found in diagnosis.findings}
            left = check_file(done.path).findings
            assert {found.code for found in left if found.level == "blocker"} <= unknown
        except DataError:
            refused += 1
            assert diagnosis.blocked
    assert refused < 80
