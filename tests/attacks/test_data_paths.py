"""Paths and data files of an attacker: pipes, devices, huge trees, bombs, odd names."""

from __future__ import annotations

import gzip
import json
import os
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from modelforge.data.formats.errors import ReadError
from modelforge.data.formats.read import read_rows
from modelforge.data.sources import locate
from modelforge.data.sources.locate import find_folder_files
from modelforge.errors import DataError

MAX_SECONDS = 10.0
PATHS = [
    "/", "/proc", "/sys", "/dev", "/proc/kmsg", "/proc/self/mem", "/proc/self/environ", "/dev/zero",
    "/dev/urandom", "/dev/stdin", "/dev/tty", "~", "~root", "~nobody/x", "~\0", ".", "..", "./",
    "", " ", "\0", "a\0b", "x" * 5000, "/" + "x" * 5000, "x/" * 2500, "../../../../etc/shadow",
    "\udcff", "con", "nul", "\\\\host\\share", "C:\\x", "file:///etc/passwd", "http://127.0.0.1:1/x",
    "hub:../../x", "hub:a/b/c", "sample:../x", "sample:", "hub:", "ftp://x", "s3://x/y", "-", "--",
    "$(reboot)", "`reboot`", "%s%s%n", "*", "?", "[a-z]*", "{a,b}", "\u202egpj.exe", "\u2025",
]  # fmt: skip


def _ask(target, dataset):
    settings = {
        "task": "text-generation",
        "model_name": "starter",
        "dataset": dataset,
        "compute_specs": "low_end",
    }
    body = [json.dumps(settings).encode()]
    began = time.monotonic()
    response = target.send("/api/preflight", method="POST", body=body)
    assert time.monotonic() - began < MAX_SECONDS, dataset[:40]
    return response


@pytest.mark.parametrize("dataset", PATHS)
def test_no_path_is_an_unexpected_error_or_waits(target, dataset):
    response = _ask(target, dataset)
    assert response.status in {200, 404, 422}, response.body[:300]
    assert b"root:" not in response.body


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_is_not_read(target, tmp_path):
    pipe = tmp_path / "rows.jsonl"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        assert _ask(target, str(path)).status in {404, 422}
    with pytest.raises(ReadError, match="not a regular file"):
        next(read_rows(pipe))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is a folder of Linux")
def test_a_file_of_proc_is_empty(tmp_path):
    link = tmp_path / "rows.jsonl"
    link.symlink_to("/proc/kmsg")
    with pytest.raises(ReadError, match="is empty"):
        next(read_rows(link))


def test_a_tree_is_searched_with_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(locate, "MAX_ENTRIES", 50)
    for n in range(60):
        (tmp_path / f"folder-{n}").mkdir()
    with pytest.raises(DataError, match="more than 50 files"):
        find_folder_files(tmp_path)


def test_links_in_a_folder_are_not_followed(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n', "utf-8")
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "passwd.txt").symlink_to("/etc/passwd")
    found = find_folder_files(tmp_path / "data")
    assert [path.name for path in found] == ["rows.jsonl"]


def _bomb(folder: Path, suffix: str) -> Path:
    path = folder / f"rows.jsonl.{suffix}"
    rows = (b'{"input": "' + b"a" * 10_000 + b'", "output": "b"}\n') * 100
    path.write_bytes(
        gzip.compress(rows) if suffix == "gz" else pa.compress(rows, "zstd", asbytes=True)
    )
    return path


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_an_archive_that_expands_too_much_is_refused(tmp_path, monkeypatch, suffix):
    from modelforge.data.formats import streams

    monkeypatch.setattr(streams, "MAX_EXPANDED_BYTES", 100_000)
    path = _bomb(tmp_path, suffix)
    with pytest.raises(ReadError) as caught:
        list(read_rows(path))
    assert caught.value.code == "expands-too-much"


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_text_that_compresses_well_is_read(tmp_path, suffix):
    assert len(list(read_rows(_bomb(tmp_path, suffix)))) == 100


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_of_many_columns_is_refused_quickly(target, tmp_path, kind):
    names = [f"c{n}" for n in range(200_000 if kind == "csv" else 20_000)]
    path = tmp_path / f"rows.{kind}"
    if kind == "csv":
        path.write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n", "utf-8")
    else:
        import pyarrow.parquet as pq

        pq.write_table(pa.table({name: [1] for name in names}), path)
    response = _ask(target, str(path))
    assert response.status == 422
    assert b"columns; at most" in response.body


def test_an_unclosed_quote_is_found_quickly(target, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('input,output\n"' + "a,b\n" * 300_000, "utf-8")
    assert _ask(target, str(path)).status in {200, 422}


@pytest.mark.parametrize(
    "row",
    [
        '{"input": ' + "[" * 50_000 + "]" * 50_000 + ', "output": "b"}',
        '{"input": "\\ud800", "output": "b"}',
        '{"input": 1e999, "output": NaN}',
        '{"input": ' + "9" * 5000 + ', "output": "b"}',
        '{"messages": [{"role": {}, "content": []}]}',
        '{"messages": [[[]]]}',
        '{"messages": {"role": "user"}}',
        '{"input": {"$ref": "#"}, "output": null}',
        '{"' + "a" * 100_000 + '": 1}',
        '{"": "", "\\u0000": 1}',
        '[1, 2, 3]',
        "null",
    ],
)  # fmt: skip
def test_no_row_is_an_unexpected_error(target, tmp_path, row):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{row}\n{{"input": "a", "output": "b"}}\n' * 10, "utf-8")
    assert _ask(target, str(path)).status in {200, 422}


UNITS = [
    "a", "1", "1-", "<", "&", "{{", "\\", "http://", "a@", "sk-", "=", "-", " ", "\t", "\u00a0",
    "<|", "### ", "User:", "```", "AKIA", "-----BEGIN ", "eyJ.", "0x", "%", "::", "1.", "(", "Ã©",
    "\u200b", "\u202e", "<!--", '<a href="', "4111 1111 ", "…", "😀", "＝", "\ufffd", "é", "\x1b[",
]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_no_repetition_in_a_row_is_an_unexpected_error(target, tmp_path, unit):
    text = unit * (100_000 // len(unit))
    path = tmp_path / "rows.jsonl"
    row = json.dumps({"input": f"{text}!", "output": text})
    path.write_text(f"{row}\n" * 3, "utf-8")
    assert _ask(target, str(path)).status in {200, 422}
