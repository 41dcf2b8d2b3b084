import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelforge.data.sources.uploads import list_uploads, safe_name, save_upload
from modelforge.errors import DataError, RunError
from modelforge.paths import Home

NAMES = {
    "rows.jsonl": "rows.jsonl",
    "Rows.JSONL": "Rows.jsonl",
    "../../etc/passwd.csv": "passwd.csv",
    "C:\\Users\\me\\rows.csv": "rows.csv",
    "/abs/rows.json": "rows.json",
    "con.csv": "_con.csv",
    "LPT1.old.csv": "_LPT1.old.csv",
    "a\x00b\n.csv": "ab.csv",
    "right\u202eleft.csv": "rightleft.csv",
    'a<b>:"|?*.csv': "a_b______.csv",
    ".hidden.csv": "hidden.csv",
    " . .csv": "data.csv",
    "übung.tsv": "übung.tsv",
    "x" * 400 + ".parquet": "x" * 120 + ".parquet",
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.mark.parametrize("given", NAMES)
def test_a_file_name_is_made_safe_and_stays_readable(given: str) -> None:
    assert safe_name(given) == NAMES[given]


@pytest.mark.parametrize(
    "given", ["rows.exe", "rows", "", ".", "..", "rows.csv/", "csv", "a.csv.sh"]
)
def test_other_kinds_of_files_are_refused(home: Home, given: str) -> None:
    with pytest.raises(DataError):
        save_upload(home, given, [b"a"], 10)
    assert not home.uploads.exists()


def test_an_upload_arrives_whole_under_its_name(home: Home) -> None:
    path = save_upload(home, "a.csv", iter([b"in", b"", b"put"]), 100)
    assert path == home.uploads / "a.csv"
    assert path.read_bytes() == b"input"


def test_a_second_file_of_that_name_gets_a_number(home: Home) -> None:
    names = [save_upload(home, "a.csv", [bytes([n + 65])], 100).name for n in range(3)]
    assert names == ["a.csv", "a-2.csv", "a-3.csv"]
    assert (home.uploads / "a.csv").read_bytes() == b"A"
    assert {path.name for path in list_uploads(home)} == set(names)


def test_a_file_beyond_the_limit_leaves_nothing_behind(home: Home) -> None:
    with pytest.raises(DataError, match=r"larger than 1\.0 MiB"):
        save_upload(home, "a.csv", iter(lambda: b"x" * 2**16, None), 2**20)
    assert list(home.uploads.iterdir()) == []


def test_an_empty_file_leaves_nothing_behind(home: Home) -> None:
    with pytest.raises(DataError, match="empty"):
        save_upload(home, "a.csv", [b""], 100)
    assert list(home.uploads.iterdir()) == []


def test_a_broken_connection_leaves_nothing_behind(home: Home) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError("gone")

    with pytest.raises(RunError, match="cannot be saved"):
        save_upload(home, "a.csv", broken(), 100)
    assert list(home.uploads.iterdir()) == []
    assert list_uploads(home) == []


def test_uploads_cannot_be_written_where_a_file_stands(home: Home) -> None:
    home.root.mkdir()
    home.uploads.write_text("in the way")
    with pytest.raises(RunError) as caught:
        save_upload(home, "a.csv", [b"a"], 100)
    assert os.fspath(home.root) not in caught.value.problems[0].what
