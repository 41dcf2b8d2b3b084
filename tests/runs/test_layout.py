"""Files appear whole or not at all."""

from __future__ import annotations

import errno

import pytest

from modelforge.errors import RunError
from modelforge.runs.atomic_files import disk_error, find_json, read_json, write_json
from modelforge.runs.layout import RunFolder


def test_json_is_replaced_in_one_step_and_leaves_no_draft(tmp_path):
    path = tmp_path / "config.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": "ü"})
    assert read_json(path) == {"a": "ü"}
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", None])
def test_a_file_that_cannot_be_read_is_reported_in_words(tmp_path, content):
    path = RunFolder(tmp_path / "some-run").config
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    assert find_json(path) is None
    with pytest.raises(RunError, match=r"some-run/config\.json"):
        read_json(path)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "is full"),
        (errno.EROFS, "not allowed"),
        (errno.EACCES, "not allowed"),
        (errno.EIO, "cannot be written"),
    ],
)
def test_a_disk_that_refuses_is_named_with_a_remedy(tmp_path, number, words):
    problem = disk_error(OSError(number, "reason"), tmp_path / "config.json").problems[0]
    assert words in problem.what
    assert str(tmp_path) in problem.what
    assert problem.remedy


def test_writing_into_a_folder_that_is_not_there_fails_in_words(tmp_path):
    with pytest.raises(RunError):
        write_json(tmp_path / "gone" / "config.json", {})
