"""Leave rows out of data files, or change them, in a copy; the originals are never changed."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from modelforge.config.schema.data import Source
from modelforge.data.canonical.convert import to_canonical
from modelforge.data.canonical.messages import UnusableRowError
from modelforge.data.columns.joined import join_options
from modelforge.data.formats.options import ReadOptions
from modelforge.data.formats.read import read_rows
from modelforge.data.sources.load import LoadedSource, copies_per_row
from modelforge.data.sources.uploads import safe_name
from modelforge.errors import ConfigError, DataError, NotFoundError, Problem, RunError
from modelforge.paths import Home

MAX_EDITS = 10_000
# Fields of a source that say where and how it is stored; a copy has its own place, as JSON Lines.
LOCATION = (
    *("path", "subset", "split", "encoding", "sheet"),
    *("chat_person", "chat_pause", "chat_mask"),
)
_COPY_SUFFIX = re.compile(r"\.edited-[0-9a-f]{8}\Z")
_MAX_SUFFIX_CHARS = 8
_CONTENTS, _ROLES = ("content", "value"), ("role", "from")
_MESSAGE = re.compile(r"(.*)\[(\d{1,6})\]", re.DOTALL)


@dataclass(frozen=True)
class RowEdits:
    """Changes of rows, which are numbered from 1 in the order in which a run reads its sources.

    `left_out` are the numbers of rows that are not used, `changed` the new texts of rows by
    column. A column that holds no text is given as JSON, a message as `messages[0]`.
    """

    left_out: frozenset[int] = frozenset()
    changed: Mapping[int, Mapping[str, str]] | None = None

    @property
    def numbers(self) -> frozenset[int]:
        """The rows that are left out or changed."""
        return self.left_out | frozenset(self.changed or ())


@dataclass(frozen=True)
class StoredRow:
    """A row as a file holds it: the index of its source, and its place in the file from 0."""

    number: int
    source: int
    file: Path
    place: int
    line: int
    data: Mapping[str, Any]


def find_rows(
    loaded: Sequence[LoadedSource], seed: int, numbers: Iterable[int]
) -> dict[int, StoredRow]:
    """Return these rows by their numbers; each is read once, in one pass over the files.

    Rows that cannot be used have no number, and a row that is repeated has several. Raises
    NotFoundError for a number that no row has.
    """
    wanted = set(numbers)
    found: dict[int, StoredRow] = {}
    last = max(wanted, default=0)
    number = 0
    for row, copies in _numbered(loaded, seed):
        for _ in range(copies):
            number += 1
            if number in wanted:
                found[number] = StoredRow(number, **row)
        if number >= last:
            break
    if missing := sorted(wanted - found.keys()):
        what = f"Row {missing[0]:,} does not exist; the data has {number:,} rows."
        raise NotFoundError(Problem("data", what, "Choose a row of the data."))
    return found


def _numbered(loaded: Sequence[LoadedSource], seed: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each usable row and how often a run uses it."""
    for index, source in enumerate(loaded):
        options = source.source
        copies = copies_per_row(source.summary.rows, options.samples, options.weight, seed, index)
        usable = 0
        for file in source.files:
            rows = read_rows(file, options=ReadOptions.of(options), join=join_options(options))
            for place, (line, data) in enumerate(rows):
                try:
                    to_canonical(data, source.mapping)
                except UnusableRowError:
                    continue
                row = {"source": index, "file": file, "place": place, "line": line, "data": data}
                yield row, copies(usable)
                usable += 1


def as_texts(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns of a row as people edit them: texts as they are, the rest as JSON.

    Each message of a conversation is a text of its own, as in `messages[0]`.
    """
    texts: dict[str, str] = {}
    for column, value in data.items():
        if messages := _messages(value):
            texts |= {f"{column}[{place}]": text for place, (_, text) in enumerate(messages)}
        else:
            texts[str(column)] = _as_text(value)
    return texts


def text_label(data: Mapping[str, Any], name: str) -> tuple[str, bool]:
    """Return the title of a text of a row, and whether it is JSON."""
    if name in data:
        return name, not isinstance(data[name], str | None)
    column, place = _message_place(name)
    role, _ = _messages(data[column])[place]
    return f"{column}: {role or place + 1}", False


def _messages(value: Any) -> list[tuple[str, str]]:
    """Return role and content of each message of a conversation; nothing for other values."""
    if not isinstance(value, list):
        return []
    found = []
    for message in value:
        key = _content_key(message)
        if key is None:
            return []
        role = next((message[name] for name in _ROLES if isinstance(message.get(name), str)), "")
        found.append((role, message[key]))
    return found


def _content_key(message: Any) -> str | None:
    if not isinstance(message, Mapping):
        return None
    return next((name for name in _CONTENTS if isinstance(message.get(name), str)), None)


def _message_place(name: str) -> tuple[str, int]:
    match = _MESSAGE.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, -1)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def changed_row(row: StoredRow, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return a row with new texts; raises ConfigError for one that is not the JSON it must be."""
    data = dict(row.data)
    for name, text in texts.items():
        if name in data:
            if text != _as_text(data[name]):
                data[name] = _new_value(row, name, text)
            continue
        column, place = _message_place(name)
        if not 0 <= place < len(_messages(data.get(column))):
            what = f"Row {row.number:,} has no column {name!r}."
            raise ConfigError(Problem("data", what, "Choose one of its columns."))
        messages = [dict(message) for message in data[column]]
        messages[place][_content_key(messages[place])] = text
        data[column] = messages
    return data


def _new_value(row: StoredRow, column: str, text: str) -> Any:
    old = row.data[column]
    if old is None or isinstance(old, str):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        what = f"{column} of row {row.number:,} is not valid JSON: {error}."
        remedy = "Write it like the value that it replaces."
        raise ConfigError(Problem("data", what, remedy)) from error


def edit_sources(
    loaded: Sequence[LoadedSource], home: Home, edits: RowEdits, seed: int
) -> list[list[str]]:
    """Write copies of the files whose rows are edited; return the files of each source.

    A file without edits keeps its path. Raises DataError where no row would be left,
    NotFoundError for a row that does not exist, ConfigError for a wrong value.
    """
    if len(edits.numbers) > MAX_EDITS:
        what = f"{len(edits.numbers):,} rows are more than the {MAX_EDITS:,} that can be edited."
        raise ConfigError(Problem("data", what, "Change the file with another program."))
    rows = find_rows(loaded, seed, edits.numbers)
    by_file: dict[Path, dict[int, dict[str, Any] | None]] = defaultdict(dict)
    for number, row in rows.items():
        is_out = number in edits.left_out
        texts = (edits.changed or {}).get(number, {})
        by_file[row.file][row.place] = None if is_out else changed_row(row, texts)
    return [
        [
            str(_write_copy(file, source.source, home, by_file[file]))
            if file in by_file
            else str(file)
            for file in source.files
        ]
        for source in loaded
    ]


def _write_copy(
    path: Path, source: Source, home: Home, edited: Mapping[int, dict[str, Any] | None]
) -> Path:
    """Write the rows of a file as JSON Lines into the uploads; equal edits give one file."""
    target = _target(path, home, edited)
    staged = home.uploads / f".staged-{secrets.token_hex(8)}"
    option = orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    count = 0
    try:
        home.uploads.mkdir(parents=True, exist_ok=True)
        with staged.open("xb") as file:
            rows = read_rows(path, options=ReadOptions.of(source), join=join_options(source))
            for place, row in enumerate(rows):
                data = edited.get(place, row.data)
                if data is not None:
                    file.write(orjson.dumps(data, default=str, option=option))
                    count += 1
            file.flush()
            os.fsync(file.fileno())
        if not count:
            what = "would have no row left."
            raise DataError(Problem(path.name, what, "Leave fewer rows out."))
        staged.replace(target)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        what = f"The edited copy cannot be written: {reason}."
        raise RunError(Problem("dataset", what, "Free disk space in the home folder.")) from error
    finally:
        staged.unlink(missing_ok=True)
    return target


def _target(path: Path, home: Home, edited: Mapping[int, Any]) -> Path:
    stem = path.name
    while Path(stem).suffix and len(Path(stem).suffix) <= _MAX_SUFFIX_CHARS:
        stem = Path(stem).stem
    stem = _COPY_SUFFIX.sub("", stem) or "data"
    stamp = path.stat()
    key = [str(path), stamp.st_size, stamp.st_mtime_ns, sorted(edited.items())]
    digest = sha256(json.dumps(key, default=str).encode()).hexdigest()[:8]
    return home.uploads / safe_name(f"{stem}.edited-{digest}.jsonl")
