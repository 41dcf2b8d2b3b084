"""Sheets of Excel workbooks."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from modelforge.config.schema.data import Source
from modelforge.data.checks.run import check_file
from modelforge.data.checks.summary import summarize
from modelforge.data.formats import workbook as module
from modelforge.data.formats.errors import ReadError
from modelforge.data.formats.options import ReadOptions
from modelforge.data.formats.read import read_rows
from modelforge.data.formats.sniff import sniff_file
from modelforge.data.formats.workbook import sheet_names
from tests.data.formats.workbooks import Day, sheet_text, write_parts, write_workbook

HEADER = ["prompt", "completion"]
TREES = [HEADER, ["Name a tree.", "The oak."], [None, None], ["Name a bird.", "The wren & co."]]


def rows_of(path: Path, sheet: str | None = None) -> list[tuple[int, dict[str, object]]]:
    return [(row.line, row.data) for row in read_rows(path, options=ReadOptions(sheet=sheet))]


def refusal(path: Path, sheet: str | None = None) -> ReadError:
    with pytest.raises(ReadError) as caught:
        rows_of(path, sheet)
    return caught.value


def test_a_sheet_is_read_with_the_numbers_of_its_rows(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "trees.xlsx", {"Empty": [], "Trees": TREES})
    assert rows_of(path) == [
        (2, {"prompt": "Name a tree.", "completion": "The oak."}),
        (4, {"prompt": "Name a bird.", "completion": "The wren & co."}),
    ]
    assert sheet_names(sniff_file(path)) == ["Empty", "Trees"]
    result = check_file(path)
    assert [each.code for each in result.findings] == ["few-rows"]


def test_the_sheet_that_is_set_is_read(tmp_path: Path) -> None:
    other = [HEADER, ["a", "b"]]
    path = write_workbook(tmp_path / "trees.xlsx", {"Trees": TREES, "Other": other})
    assert summarize(path, source=Source(path="x", sheet="Other")).rows == 1
    assert summarize(path, source=Source(path="x")).rows == 2
    error = refusal(path, "Othr")
    assert error.code == "sheet-missing"
    assert "Did you mean Other? Its sheets are Trees, Other." in str(error)


def test_cells_become_plain_data(tmp_path: Path) -> None:
    cells = ["text", 3, 0.5, True, Day(45_000)]
    path = write_workbook(tmp_path / "cells.xlsx", {"A": [list("abcde"), cells]})
    ((_, row),) = rows_of(path)
    assert list(row.values()) == ["text", 3, 0.5, True, "2023-03-15"]


def test_columns_without_a_name_are_numbered_and_two_of_a_name_are_refused(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "a.xlsx", {"A": [["prompt", None, "x"], ["a", "b", "c"]]})
    assert rows_of(path) == [(2, {"prompt": "a", "column 2": "b", "x": "c"})]
    path = write_workbook(tmp_path / "b.xlsx", {"A": [["prompt", "prompt"], ["a", "b"]]})
    error = refusal(path)
    assert (error.code, error.line, error.column) == ("duplicate-column", 1, 2)


def test_a_workbook_without_cells_is_refused(tmp_path: Path) -> None:
    error = refusal(write_workbook(tmp_path / "a.xlsx", {"A": [], "B": []}))
    assert error.code == "empty-file"
    assert "no cells in its 2 sheets" in str(error)


def test_a_few_distant_cells_are_refused(tmp_path: Path) -> None:
    far = sheet_text([HEADER, ["a", "b"]]).replace('r="A2"', "r = 'XFD1048576'")
    error = refusal(write_parts(tmp_path / "far.xlsx", {"A": far}))
    assert error.code == "expands-too-much"
    assert "1,048,576 rows and 16,384 columns" in str(error)


def test_a_workbook_that_expands_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_EXPANDED_BYTES", 100_000)
    path = write_workbook(tmp_path / "big.xlsx", {"A": [HEADER, ["a" * 200_000, "b"]]})
    assert refusal(path).code == "expands-too-much"


def test_a_damaged_workbook_is_refused(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "a.xlsx", {"A": TREES})
    content = bytearray(path.read_bytes())
    at = content.index(b"xl/workbook.xml") + 30
    content[at : at + 20] = bytes(20)
    path.write_bytes(content)
    assert refusal(path).code in ("damaged-table", "damaged-compression")
    path.write_bytes(bytes(content)[:-40])
    assert refusal(path).code == "damaged-compression"


def test_an_office_document_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", "<document/>")
    error = refusal(path)
    assert error.code == "unsupported-format"
    assert "office document" in str(error)
