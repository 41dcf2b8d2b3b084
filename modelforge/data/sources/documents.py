"""Read the documents of a run as whole texts, for training from nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelforge.data.canonical.convert import read_canonical
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.formats.options import ReadOptions
from modelforge.data.formats.sniff import sniff_file
from modelforge.data.formats.text import read_document
from modelforge.data.sources.load import Record, copies_per_row, source_entries
from modelforge.errors import DataError, Problem

_WHOLE = ("text", "markdown")


def iterate_documents(record: Record, seed: int, part: str = "sources") -> Iterator[str]:
    """Yield the documents of a run, one source after the other.

    A file of plain text or Markdown is a document as it is, in pieces of many lines where it is
    long; rows of other files are documents. Samples and weights are drawn with the seed: the same
    record and seed give the same documents.

    Raises:
        DataError: A row is not a text, or a file can no longer be read.
    """
    for index, entry in enumerate(source_entries(record, part)):
        copies = copies_per_row(
            entry["rows"], entry.get("samples"), entry.get("weight", 1.0), seed, index
        )
        number = 0
        for file in entry["files"]:
            for text in _texts_of(Path(file), entry):
                # A long text has more pieces than rows.
                for _ in range(copies(number % max(1, entry["rows"]))):
                    yield text
                number += 1


def source_bytes(record: Record, part: str = "sources") -> int:
    """Return the size of the files of a run, compressed as they are."""
    files = [Path(file) for entry in source_entries(record, part) for file in entry["files"]]
    return sum(file.stat().st_size for file in files if file.is_file())


def _texts_of(path: Path, entry: dict[str, Any]) -> Iterator[str]:
    options = ReadOptions.of_entry(entry)
    file = sniff_file(path, options)
    if file.format in _WHOLE:
        yield from read_document(file)
        return
    for row in read_canonical(path, ColumnMapping.from_dict(entry["mapping"]), options):
        if "text" not in row:
            raise DataError(
                Problem(
                    "dataset",
                    f"{path.name} has rows of {', '.join(sorted(row))}; training from nothing "
                    "needs texts.",
                    'Use rows with a column "text", or plain text and Markdown files.',
                )
            )
        yield row["text"]
