"""ZIP archives of one data file."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import pytest

from modelforge.config.schema.data import Source
from modelforge.data.checks.file import describe_format
from modelforge.data.checks.run import check_file
from modelforge.data.checks.summary import summarize
from modelforge.data.formats import archive as module
from modelforge.data.formats import streams
from modelforge.data.formats.errors import ReadError
from modelforge.data.formats.read import read_rows
from modelforge.data.formats.sniff import sniff_file

ROWS = [{"prompt": f"Name tree {number}.", "completion": "The oak."} for number in range(12)]
LINES = "".join(f"{json.dumps(row)}\n" for row in ROWS)


def put(tmp_path: Path, files: dict[str, str | bytes], name: str = "data.zip") -> Path:
    path = tmp_path / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside, content in files.items():
            archive.writestr(inside, content)
    return path


def refusal(path: Path) -> ReadError:
    with pytest.raises(ReadError) as caught:
        list(read_rows(path))
    return caught.value


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", LINES),
        ("folder/rows.json", json.dumps(ROWS)),
        ("rows.csv", "prompt,completion\n" + "".join(f"{r['prompt']},The oak.\n" for r in ROWS)),
        ("rows.jsonl", LINES.encode("utf-16")),
    ],
)
def test_the_data_file_inside_is_read(tmp_path: Path, name: str, content: str | bytes) -> None:
    files = {name: content, "__MACOSX/._rows.csv": "x", "photo.jpg": b"\xff\xd8", ".DS_Store": "x"}
    path = put(tmp_path, files)
    assert [row.data for row in read_rows(path)] == ROWS
    assert summarize(path).rows == 12
    assert "compressed with zip" in describe_format(sniff_file(path))
    codes = {each.code for each in check_file(path).findings}
    assert codes <= {"byte-order-mark", "other-encoding"}


def test_the_chat_of_an_export_with_media_is_read(tmp_path: Path) -> None:
    chat = "[31.12.23, 22:00:00] Ben: a\n[31.12.23, 22:01:00] Anna: b\n"
    path = put(tmp_path, {"_chat.txt": chat, "00001-table.csv": "a,b", "00002.pdf": b"%PDF"})
    summary = summarize(path, source=Source(path="x", chat_person="Anna"))
    assert summary.examples[0]["messages"][1] == {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    ("files", "code", "text"),
    [
        (
            {"a.csv": "x", "b/c.jsonl": "x"},
            "archive-without-one-file",
            "2 data files: a.csv, c.jsonl",
        ),
        ({"a.jpg": "x"}, "archive-without-one-file", "without a data file among its 1 files"),
        ({}, "archive-without-one-file", "without a data file"),
        ({"a.zip": "x"}, "archive-without-one-file", "an archive inside: a.zip"),
        ({"a.jsonl.gz": "x"}, "archive-without-one-file", "an archive inside"),
        ({"a.parquet": "x"}, "compressed-table", "binary table"),
        ({"../a.csv": "x"}, "unsafe-archive", "leaves the archive: '../a.csv'"),
        ({"/a.csv": "x"}, "unsafe-archive", "leaves the archive"),
        ({"b/..\\..\\a.csv": "x"}, "unsafe-archive", "leaves the archive"),
        ({"C:/a.csv": "x"}, "unsafe-archive", "leaves the archive"),
        ({"a.csv": ""}, "empty-file", "is empty"),
    ],
)
def test_other_archives_are_refused(
    tmp_path: Path, files: dict[str, str | bytes], code: str, text: str
) -> None:
    error = refusal(put(tmp_path, files))
    assert error.code == code
    assert text in str(error)


def test_a_file_without_a_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rows.jsonl", LINES)
        archive.filelist[0].filename = ""
    assert refusal(path).code == "unsafe-archive"


def test_the_line_of_an_error_inside_is_named(tmp_path: Path) -> None:
    error = refusal(put(tmp_path, {"rows.jsonl": LINES + "{broken\n"}))
    assert error.line == 13
    assert str(error).startswith("data.zip (rows.jsonl), line 13")


def test_an_archive_that_expands_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in (module, streams):
        monkeypatch.setattr(part, "MAX_EXPANDED_BYTES", 50_000)
    path = put(tmp_path, {"rows.jsonl": '{"text": "' + "a" * 2_000_000 + '"}'})
    assert refusal(path).code == "expands-too-much"


def test_a_size_that_is_not_true_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, {"rows.jsonl": LINES * 100})
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 500)
    path.write_bytes(content)
    assert refusal(path).code in ("damaged-compression", "truncated-json")


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, {"rows.jsonl": LINES})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert refusal(path).code == "encrypted"


@pytest.mark.parametrize("keep", [10, -30])
def test_a_cut_archive_is_refused(tmp_path: Path, keep: int) -> None:
    path = put(tmp_path, {"rows.jsonl": LINES})
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(path).code == "damaged-compression"


def test_a_damaged_file_inside_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, {"rows.jsonl": LINES * 50})
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(20)
    path.write_bytes(content)
    assert refusal(path).code == "damaged-compression"


def test_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MEMBERS", 3)
    path = put(tmp_path, {f"{number}.jpg": "" for number in range(4)})
    assert "more than 3 files" in str(refusal(path))
