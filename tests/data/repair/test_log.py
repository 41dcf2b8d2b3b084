"""What a repair fixes and removes is tried before it is offered, counted and reported."""

import json
from pathlib import Path

import pytest

from modelforge.data.checks.findings import DataFinding
from modelforge.data.checks.run import check_file
from modelforge.data.formats.read import read_rows
from modelforge.data.repair import copy
from modelforge.data.repair.copy import RepairResult, repair_file
from modelforge.data.repair.log import RemovalError
from modelforge.data.sources.library import delete_dataset
from modelforge.errors import DataError
from modelforge.paths import Home

TREES = ("oak", "elm", "ash", "fir", "yew", "bay", "fig", "gum", "box", "may", "hop", "tea")
LINES = [json.dumps({"instruction": f"Name {tree}", "output": f"It is {tree}"}) for tree in TREES]


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, newline="")
    return path


def repaired(tmp_path: Path, path: Path, *, allow_removal: bool = False) -> RepairResult:
    return repair_file(path, Home(tmp_path / "home"), allow_removal=allow_removal)


def found(path: Path, code: str) -> DataFinding:
    return next(each for each in check_file(path).findings if each.code == code)


@pytest.mark.parametrize("mark", [",", ";", " ,"])
@pytest.mark.parametrize("marked", [range(12), range(11), [4]])
def test_a_mark_after_a_row_costs_no_row(tmp_path: Path, mark: str, marked: list[int]) -> None:
    lines = [f"{line}{mark}" if at in marked else line for at, line in enumerate(LINES)]
    path = written(tmp_path, "a.jsonl", "\n".join(lines) + "\n")
    finding = found(path, "mark-after-row")
    assert (finding.count, finding.fixes, finding.removes) == (len(marked), len(marked), 0)
    done = repaired(tmp_path, path)
    assert (done.rows, done.fixed, done.removed) == (12, len(marked), 0)
    assert [json.dumps(row.data) for row in read_rows(done.path)] == LINES


def test_removed_lines_are_counted_named_and_asked_about(tmp_path: Path) -> None:
    lines = [*LINES[:10], LINES[10].rstrip("}"), "this is text"]
    path = written(tmp_path, "a.jsonl", "\n".join(lines) + "\n")
    finding = found(path, "truncated-json")
    assert finding.places == [(11, len(lines[10]) + 1)]
    assert (finding.fixes, finding.removes) == (0, 1)
    with pytest.raises(RemovalError, match=r"would lose 2 of 12 rows: lines 11, 12"):
        repaired(tmp_path, path)
    assert not list((tmp_path / "home" / "uploads").iterdir())
    done = repaired(tmp_path, path, allow_removal=True)
    assert (done.rows, done.removed, done.removed_lines) == (10, 2, [11, 12])
    report = done.report.read_text()
    assert "Rows removed: 2" in report
    assert "line 11: truncated-json" in report
    delete_dataset(done.dataset, Home(tmp_path / "home"))
    assert not done.report.exists()


def test_a_few_removed_rows_need_no_consent(tmp_path: Path) -> None:
    rows = [json.dumps({"input": f"q{n}", "output": f"a{n} text"}) for n in range(100)]
    path = written(tmp_path, "a.jsonl", "\n".join([*rows, "text"]))
    assert repaired(tmp_path, path).removed == 1


def test_rows_behind_a_place_that_ends_the_reading_are_asked_about(tmp_path: Path) -> None:
    text = f"[{LINES[0]},\n{LINES[1]},\noops {','.join(LINES[2:])}]"
    path = written(tmp_path, "a.json", text)
    with pytest.raises(RemovalError, match="cannot be read after line 3; the repair keeps 2 rows"):
        repaired(tmp_path, path)


def test_comments_are_no_rows(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", "\n".join(["// my rows", *LINES, "# end"]))
    assert (repaired(tmp_path, path).rows, repaired(tmp_path, path).removed) == (12, 0)


def test_cells_that_a_delimiter_splits_wrongly_are_counted(tmp_path: Path) -> None:
    rows = [f"q{n}^a{n}" for n in range(11)]
    path = written(tmp_path, "a.csv", "\n".join(["input^output", *rows, "q^a^more"]))
    assert repaired(tmp_path, path, allow_removal=True).removed_lines == [13]


def test_a_repair_that_keeps_no_row_is_not_offered(tmp_path: Path) -> None:
    rows = [json.dumps({"instruction": tree, "output": [tree, "x"]}) for tree in TREES]
    path = written(tmp_path, "a.jsonl", "\n".join(rows))
    assert found(path, "list-column").repair is None
    with pytest.raises(DataError):
        repaired(tmp_path, path)


def test_a_repair_that_changes_nothing_is_not_offered(tmp_path: Path) -> None:
    rows = [json.dumps({"instruction": tree, "output": f"['{tree}', 'x']"}) for tree in TREES]
    assert found(written(tmp_path, "a.jsonl", "\n".join(rows)), "list-as-text").repair is None


@pytest.mark.parametrize("orient", ["columns", "index"])
def test_a_table_of_pandas_is_read_as_its_rows(tmp_path: Path, orient: str) -> None:
    rows = [json.loads(line) for line in LINES]
    columns = {name: {str(at): row[name] for at, row in enumerate(rows)} for name in rows[0]}
    by_row = {str(at): row for at, row in enumerate(rows)}
    table = json.dumps(columns if orient == "columns" else by_row)
    assert [row.data for row in read_rows(written(tmp_path, "a.json", table))] == rows
    assert not check_file(tmp_path / "a.json").findings


def test_the_line_of_excel_names_the_delimiter(tmp_path: Path) -> None:
    cells = "".join(f'"Name {tree}";"Size: 0,5 m, {tree}"\r\n' for tree in TREES)
    path = written(tmp_path, "a.csv", f'sep=;\r\n"prompt";"completion"\r\n{cells}')
    rows = list(read_rows(path))
    assert (len(rows), rows[0].line) == (12, 3)
    assert rows[0].data == {"prompt": "Name oak", "completion": "Size: 0,5 m, oak"}
    assert not check_file(path).blocked


def test_a_quotation_mark_at_the_start_of_a_tsv_cell_is_text(tmp_path: Path) -> None:
    cells = "".join(f'"{tree}" is what?\tA tree\n' for tree in TREES)
    path = written(tmp_path, "a.tsv", f"prompt\tcompletion\n{cells}")
    assert [row.data["prompt"] for row in read_rows(path)][:2] == [
        '"oak" is what?',
        '"elm" is what?',
    ]
    quoted = written(tmp_path, "b.tsv", 'prompt\tcompletion\n"a\tb"\t"He said ""x"""\n')
    assert [row.data for row in read_rows(quoted)] == [
        {"prompt": "a\tb", "completion": 'He said "x"'}
    ]


@pytest.fixture
def small_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of more than 1,000 bytes are large, so that repairs are tried on a sample."""
    monkeypatch.setattr(copy, "_MAX_TRIED_BYTES", 1000)


@pytest.mark.usefixtures("small_trial")
def test_repairs_of_a_large_file_are_tried_on_its_first_rows_and_those_found(
    tmp_path: Path,
) -> None:
    rows = [{"input": f"Question {n}?", "output": f"Answer {n}."} for n in range(200)]
    rows[3]["output"] += "<|im_end|>"
    rows[150]["output"] += "\x07"
    rows[160]["output"] = "['a', 'b']"
    rows[199] = rows[198]
    lines = [json.dumps(row) for row in rows]
    lines[170] += ","
    path = written(tmp_path, "a.jsonl", "\n".join(lines) + "\n")
    effects = {
        each.code: (each.fixes, each.removes, each.tried) for each in check_file(path).findings
    }
    tried = effects["control-characters"][2]
    assert tried is not None
    assert 15 < tried < 40
    assert effects == {
        "mark-after-row": (1, 0, tried),
        "control-characters": (1, 0, tried),
        "end-token-in-answer": (1, 0, tried),
        "list-as-text": (None, None, None),  # nothing can be done about two items
        "special-tokens": (None, None, None),
        "duplicate-rows": (0, 1, None),
    }


@pytest.mark.usefixtures("small_trial")
def test_a_repair_of_a_large_file_that_keeps_no_tried_row_is_not_offered(tmp_path: Path) -> None:
    rows = [json.dumps({"instruction": tree, "output": [tree, "x"]}) for tree in TREES * 9]
    path = written(tmp_path, "a.jsonl", "\n".join(rows))
    assert not [each for each in check_file(path).findings if each.repair]
