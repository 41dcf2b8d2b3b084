"""The novels: a Debian package and R's serialization are read, and chapters are divided."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib

import pytest

from bench import prose


def vector(lines: list[str]) -> bytes:
    """Return a character vector as R serializes it, version 3."""
    raw = b"X\n" + struct.pack(">IIII", 3, 0x40201, 0x30500, 5) + b"UTF-8"
    raw += struct.pack(">II", 16, len(lines))
    for line in lines:
        text = line.encode()
        raw += struct.pack(">II", 0x40009, len(text)) + text
    return struct.pack(">I", len(raw)) + zlib.compress(raw)


def member(name: bytes, body: bytes) -> bytes:
    head = b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (name, 0, 0, 0, b"100644", len(body))
    return head + body + b"\n" * (len(body) % 2)


def package(name: str, body: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:xz") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(body)
        archive.addfile(entry, io.BytesIO(body))
    parts = member(b"debian-binary", b"2.0\n"), member(b"control.tar.xz", b"odd")
    return b"!<arch>\n" + b"".join(parts) + member(b"data.tar.xz", file.getvalue())


NOVEL = [
    "PRIDE", "", "", "Chapter 1", "", "It is a truth", "universally acknowledged,", "",
    "that a single man", "", "Chapter 2", "", "Mr. Bennet called £5 a chapter 3 of it.",
]  # fmt: skip


def test_lines_come_out_of_the_package():
    database = vector(NOVEL) + vector(["x"])
    read = prose.member_of(package("./data/Rdata.rdb", database), "./data/Rdata.rdb")
    assert list(prose.r_vectors(read)) == [NOVEL, ["x"]]


def test_chapters_have_paragraphs_of_one_line():
    assert prose.chapters_of(NOVEL) == [
        "PRIDE\n",
        "Chapter 1\n\nIt is a truth universally acknowledged,\n\nthat a single man\n",
        "Chapter 2\n\nMr. Bennet called £5 a chapter 3 of it.\n",
    ]


def test_the_side_of_a_chapter_depends_on_its_text_alone(tmp_path):
    chapters = [f"Chapter {number}\n\nSome text.\n" for number in range(400)]
    divided = prose.divided(chapters)
    assert 5 <= len(divided.held_out) <= 40
    assert sorted(divided.train + divided.held_out) == sorted(chapters)
    again = prose.divided(chapters[::-1])
    assert set(again.held_out) == set(divided.held_out)
    train, held_out = prose.write(divided, tmp_path)
    rows = [json.loads(line)["text"] for line in held_out.read_text("utf-8").splitlines()]
    assert rows == divided.held_out
    assert len(train.read_text("utf-8").splitlines()) == len(divided.train)


def test_another_text_is_refused(monkeypatch):
    monkeypatch.setattr(prose, "downloaded", lambda: package(prose.MEMBER, vector(NOVEL)))
    with pytest.raises(RuntimeError, match="another text"):
        prose.novels()
