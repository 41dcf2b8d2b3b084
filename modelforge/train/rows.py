"""The data file to two tables of tokens, the rows to train on and those held out."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset

from modelforge.data.chat import Canonical, fingerprint, iterate
from modelforge.data.detect import Mapping
from modelforge.data.split import split
from modelforge.errors import Problem
from modelforge.train.failures import WorkError
from modelforge.train.tokens import Dialect, Encoded, encode

Progress = Callable[[int, int], None]

BATCH = 256
EVERY_S = 0.25
_TOKENS = pa.list_(pa.int32())
_SCHEMA = pa.schema({"input_ids": _TOKENS, "labels": _TOKENS})


@dataclass
class Tokenized:
    """Both tables, and what happened to the rows on the way. Token counts are of training rows."""

    train: Dataset
    held_out: Dataset | None
    trained_tokens: int = 0
    all_tokens: int = 0
    truncated_rows: int = 0
    dropped_rows: int = 0
    notes: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Order:
    """What to read and how: the record of the dataset in the run, and three settings."""

    path: Path
    mapping: Mapping
    eval_split: float
    seed: int
    max_length: int


def tokenize(order: Order, dialect: Dialect, progress: Progress) -> Tokenized:
    """Return the tokens of every row; `progress` hears rows done and rows in all, now and then.

    Rows without a trained token are left out and counted. Raises WorkError `nothing-to-learn`
    when none is left to train on, and DataError when the file cannot be read any more.
    """
    train, held_out = split(_prints(order), order.eval_split, order.seed)
    aside = set(held_out)
    tally = _Tally(progress, len(train) + len(held_out))
    halves = _Half(), _Half()
    index = 0
    for batch in _batches(iterate(order.path, order.mapping)):
        for row in encode(batch, dialect, order.max_length):
            halves[index in aside].take(row)
            index += 1
        tally.say(index)
    return _result(halves, order, wants_check=bool(aside))


def has_changed(path: Path, sha256: str) -> bool:
    """Say whether the file is another than at the first look; one that is gone is not for here."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() != sha256
    except OSError:
        return False


class _Half:
    def __init__(self) -> None:
        self.tables: list[pa.Table] = []
        self.rows: list[Encoded] = []
        self.trained = self.read = self.cut = self.dropped = 0

    def take(self, row: Encoded) -> None:
        trained = row.trained
        if not trained:
            self.dropped += 1
            return
        self.trained += trained
        self.read += len(row.ids)
        self.cut += row.cut
        self.rows.append(row)
        if len(self.rows) >= BATCH:
            self._pack()

    def dataset(self) -> Dataset:
        self._pack()
        return Dataset(pa.concat_tables(self.tables)) if self.tables else Dataset(_table([]))

    def _pack(self) -> None:
        # Python's own integers would take five times the memory of a table.
        if self.rows:
            self.tables.append(_table(self.rows))
            self.rows = []


class _Tally:
    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._said = 0.0

    def say(self, done: int) -> None:
        now = time.monotonic()
        if done >= self._total or now - self._said >= EVERY_S:
            self._said = now
            self._progress(done, self._total)


def _table(rows: list[Encoded]) -> pa.Table:
    columns = {"input_ids": [row.ids for row in rows], "labels": [row.labels for row in rows]}
    return pa.table(columns, schema=_SCHEMA)


def _prints(order: Order) -> Iterator[str]:
    for row in iterate(order.path, order.mapping):
        yield hashlib.blake2b(fingerprint(row).encode(), digest_size=16).hexdigest()


def _batches(rows: Iterator[Canonical]) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(rows, BATCH)):
        yield batch


def _result(halves: tuple[_Half, _Half], order: Order, *, wants_check: bool) -> Tokenized:
    train, held_out = halves
    if not train.trained:
        raise WorkError("nothing-to-learn", _nothing(train, order))
    checked = held_out.dataset() if held_out.trained else None
    notes = list(_notes(train, held_out, order))
    if wants_check and checked is None:
        notes.append(("no-evaluation", "No held-out row has an answer left to check on."))
    return Tokenized(
        train=train.dataset(),
        held_out=checked,
        trained_tokens=train.trained,
        all_tokens=train.read,
        truncated_rows=train.cut + held_out.cut,
        dropped_rows=train.dropped + held_out.dropped,
        notes=notes,
    )


def _notes(train: _Half, held_out: _Half, order: Order) -> Iterator[tuple[str, str]]:
    if cut := train.cut + held_out.cut:
        which = "1 row is" if cut == 1 else f"{cut:,} rows are"
        yield "rows-cut", f"{which} longer than {order.max_length:,} tokens and cut there."
    if dropped := train.dropped + held_out.dropped:
        which = "1 row is" if dropped == 1 else f"{dropped:,} rows are"
        yield "rows-dropped", f"{which} left out: no answer fits, or the template refuses it."


def _nothing(train: _Half, order: Order) -> Problem:
    return Problem(
        "dataset",
        f"None of the {train.dropped:,} training rows has an answer within "
        f"{order.max_length:,} tokens.",
        "Raise the longest row (max_seq_length), or shorten the questions.",
    )
