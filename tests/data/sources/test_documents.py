"""Documents of a run as whole texts."""

from __future__ import annotations

import gzip
import json

import pytest

from modelforge.data.checks.summary import summarize
from modelforge.data.sources.documents import iterate_documents, source_bytes
from modelforge.errors import DataError

BOOK = "Chapter one\n\n  It began,\r\nas things do.\n\n\nChapter two\n\n# Not a heading\nThe end"


def record(*paths, **options):
    entries = []
    for path in paths:
        summary = summarize(path)
        entries.append(
            {
                "files": [str(path)],
                "rows": summary.rows,
                "mapping": summary.mapping.as_dict(),
                **options,
            }
        )
    return {"sources": entries, "validation": []}


@pytest.mark.parametrize("name", ["book.txt", "book.md", "book.txt.gz"])
def test_a_text_is_read_as_it_is(tmp_path, name):
    path, raw = tmp_path / name, BOOK.encode()
    path.write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    assert list(iterate_documents(record(path), 1)) == [BOOK]


def test_a_long_text_comes_in_pieces_of_whole_lines(tmp_path, monkeypatch):
    monkeypatch.setattr("modelforge.data.formats.text.PIECE_CHARS", 20)
    path = tmp_path / "book.txt"
    path.write_bytes(BOOK.encode())
    pieces = list(iterate_documents(record(path), 1))
    assert len(pieces) > 2
    assert "".join(pieces) == BOOK
    assert all(piece.endswith("\n") for piece in pieces[:-1])


def test_rows_with_a_text_are_documents(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"Page {n}"}) + "\n" for n in range(3)))
    assert list(iterate_documents(record(path), 1)) == ["Page 0", "Page 1", "Page 2"]
    twice = list(iterate_documents(record(path, weight=2.0), 1))
    assert twice == [f"Page {n}" for n in (0, 0, 1, 1, 2, 2)]
    assert source_bytes(record(path)) == path.stat().st_size


def test_rows_without_a_text_are_named(tmp_path):
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps({"input": "Hello?", "output": "Yes."}) + "\n")
    with pytest.raises(DataError, match=r"chats.jsonl has rows of messages"):
        list(iterate_documents(record(path), 1))
