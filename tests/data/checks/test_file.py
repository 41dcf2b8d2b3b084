"""Notes on how a file is written: its line ends."""

from pathlib import Path

import pytest

from modelforge.data.checks.file import check_file_format
from modelforge.data.formats.sniff import sniff_file

ROWS = [b'q%d,"one\ntwo, ""three"""' % number for number in range(12)]


def notes(tmp_path: Path, content: bytes, name: str = "a.csv") -> list[tuple[str, int | None]]:
    path = tmp_path / name
    path.write_bytes(content)
    return [(each.code, each.places[0][0]) for each in check_file_format(sniff_file(path))]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("inner", [b"\n", b"\r\n"])
def test_line_breaks_in_quoted_cells_are_no_line_ends(
    tmp_path: Path, ending: bytes, inner: bytes
) -> None:
    rows = [row.replace(b"\n", inner) for row in ROWS]
    content = ending.join([b"input,output", *rows, b"q,a"]) + ending
    assert notes(tmp_path, content) == []
    tabs = content.replace(b"q1,", b"q1\t").replace(b",", b"\t")
    assert notes(tmp_path, tabs, "a.tsv") == []


def test_the_first_line_that_ends_differently_is_named(tmp_path: Path) -> None:
    lines = [b"input,output\r\n", b'q1,"a\nb"\r\n', b"q2,a\n", b"q3,a\r\n"]
    assert notes(tmp_path, b"".join(lines)) == [("mixed-line-ends", 4)]
    unquoted = b'input\toutput\r\n"oak" is\ta\n"elm" is\ta\r\n'
    assert notes(tmp_path, unquoted, "a.tsv") == [("mixed-line-ends", 2)]


def test_a_cell_that_the_first_mebibyte_cuts_ends_no_line(tmp_path: Path) -> None:
    long = b'q,"' + b"word\n" * 300_000 + b'"\r\n'
    assert notes(tmp_path, b"input,output\r\n" + long) == []
