"""Read the rows of a data file of any format, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from modelforge.data.chats.read import read_chat
from modelforge.data.formats.csv import read_csv
from modelforge.data.formats.errors import OnReadError
from modelforge.data.formats.joining import NO_OPTIONS, JoinOptions
from modelforge.data.formats.json import RawRow, read_json_rows
from modelforge.data.formats.message_tree import Tree, join_messages, peek, tree_of
from modelforge.data.formats.options import DEFAULT_OPTIONS, ReadOptions
from modelforge.data.formats.sniff import CHAT_FORMATS, DataFile, Row, sniff_file
from modelforge.data.formats.text import read_text
from modelforge.data.formats.workbook import read_workbook


def read_rows(
    path: Path,
    on_error: OnReadError | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
    join: JoinOptions = NO_OPTIONS,
) -> Iterator[Row]:
    """Yield the rows of a file as they are written; memory is bounded by the longest row.

    `on_error` is called with each read error, after which reading continues where possible; without
    it the first one is raised. The encoding is detected if it is not set. `join` is for message
    trees.
    """
    return read_file_rows(sniff_file(Path(path), options, join), on_error)


def read_file_rows(file: DataFile, on_error: OnReadError | None = None) -> Iterator[Row]:
    """Yield the rows of a file whose format is known, as `read_rows` does."""
    return (row for row, _ in read_raw_rows(file, on_error))


def read_raw_rows(file: DataFile, on_error: OnReadError | None = None) -> Iterator[RawRow]:
    """Yield the rows of a file whose format is known, each with its line of JSON if it has one.

    The messages of a message tree are joined to conversations.
    """
    return join_messages(file, read_stored_rows(file, on_error))


def tree_kind(file: DataFile) -> Tree | None:
    """Return what the rows of a file are that are joined to conversations; None for others."""
    if file.format in CHAT_FORMATS:
        return None
    return tree_of(peek(read_stored_rows(file, lambda _error: None), file.join), file.join)


def read_stored_rows(file: DataFile, on_error: OnReadError | None = None) -> Iterator[RawRow]:
    """Yield the rows as `read_raw_rows` does, with messages not joined."""
    if file.format == "json":
        return read_json_rows(file, on_error)
    if file.format in CHAT_FORMATS:
        rows = read_chat(file, on_error)
    elif file.format == "xlsx":
        rows = read_workbook(file, on_error)
    elif not file.is_text:
        # Importing pyarrow takes 0.2 s, which other formats do not need.
        from modelforge.data.formats.parquet import read_table  # noqa: PLC0415

        rows = read_table(file)
    elif file.format in ("text", "markdown"):
        rows = read_text(file)
    else:
        rows = read_csv(file, on_error)
    return ((row, None) for row in rows)
