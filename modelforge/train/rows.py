"""The data of a run to two tables of tokens, the rows to train on and those held out."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

import pyarrow as pa
from datasets import Dataset

from modelforge.data.chat import Canonical, fingerprint
from modelforge.data.look import digest
from modelforge.data.sources import Record, entries, rows_of
from modelforge.data.split import split
from modelforge.train.counts import Counts
from modelforge.train.failures import WorkError
from modelforge.train.manner import Manner
from modelforge.train.tokens import Dialect, Encoded

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


class Half(Protocol):
    """The rows to train on, or those held out: what became of them, and what is left."""

    counts: Counts

    def dataset(self) -> Dataset:
        """Return the rows that are left, as the columns that a trainer reads."""


@dataclass(frozen=True)
class Order:
    """What to read and how: the run's record of its data, and three settings."""

    dataset: Record
    eval_split: float
    seed: int
    manner: Manner


def tokenize(order: Order, dialect: Dialect, progress: Progress) -> Tokenized:
    """Return the tokens of every row; `progress` hears rows done and rows in all, now and then.

    Rows without a trained token are left out and counted. Raises WorkError `nothing-to-learn`
    when none is left to train on, and DataError when a file cannot be read any more.
    """
    apart = bool(entries(order.dataset, "validation"))
    train, aside = _parted(order, 0.0 if apart else order.eval_split)
    tally = _Tally(progress, train + len(aside))
    halves = _Half(order.manner), _Half(order.manner, held_out=True)
    index = 0
    for batch in _batches(rows_of(order.dataset, order.seed)):
        encoded = order.manner.read(batch, dialect)
        for row, found in zip(batch, encoded, strict=True):
            halves[index in aside].take(row, found)
            index += 1
        tally.say(index)
    if apart:
        for batch in _batches(rows_of(order.dataset, order.seed, "validation")):
            for row, found in zip(batch, order.manner.read(batch, dialect), strict=True):
                halves[1].take(row, found)
    return result(halves, order, dialect, wants_check=apart or bool(aside))


def parted(order: Order, progress: Progress) -> Iterator[tuple[Canonical, bool]]:
    """Yield every row as it stands, and whether it is held out; the same rows as `tokenize` does.

    `progress` hears rows done and rows in all, now and then.
    """
    apart = bool(entries(order.dataset, "validation"))
    train, aside = _parted(order, 0.0 if apart else order.eval_split)
    tally = _Tally(progress, train + len(aside))
    for index, (_, row) in enumerate(rows_of(order.dataset, order.seed)):
        yield row, index in aside
        tally.say(index + 1)
    if apart:
        for _, row in rows_of(order.dataset, order.seed, "validation"):
            yield row, True


def result(
    halves: tuple[Half, Half], order: Order, dialect: Dialect, *, wants_check: bool
) -> Tokenized:
    """Return both tables and what is to be said of them.

    Raises WorkError `nothing-to-learn` when no row is left to train on.
    """
    train, held_out = halves
    if not train.counts.trained:
        raise WorkError("nothing-to-learn", train.counts.nothing(order.manner))
    checked = held_out.dataset() if held_out.counts.trained else None
    both = train.counts + held_out.counts
    notes = list(both.notes(order.manner, dialect))
    if wants_check and checked is None:
        notes.append(("no-evaluation", "No held-out row has an answer left to check on."))
    return Tokenized(
        train=train.dataset(),
        held_out=checked,
        trained_tokens=train.counts.trained,
        all_tokens=train.counts.read,
        truncated_rows=both.cut,
        dropped_rows=both.dropped,
        notes=notes,
    )


def changed_files(dataset: Record) -> list[str]:
    """Return the names of sources that are others than at the first look; none that are gone."""
    changed = []
    for entry in (*entries(dataset), *entries(dataset, "validation")):
        files = [Path(file) for file in entry["files"]]
        try:
            if entry.get("sha256") and digest(files) != entry["sha256"]:
                changed.append(files[0].name if len(files) == 1 else files[0].parent.name)
        except OSError:
            continue
    return changed


class _Half:
    def __init__(self, manner: Manner, *, held_out: bool = False) -> None:
        self._manner = manner
        self._held_out = held_out
        self.counts = Counts()
        self.tables: list[pa.Table] = []
        self.rows: list[Encoded] = []

    def take(self, row: Canonical, found: Encoded) -> None:
        self.rows += self.counts.take(row, found, self._manner, held_out=self._held_out)
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


def _parted(order: Order, eval_split: float) -> tuple[int, set[int]]:
    """Return how many rows are trained on, and the numbers of those held out."""
    prints, strata = [], []
    for place, row in rows_of(order.dataset, order.seed):
        prints.append(hashlib.blake2b(fingerprint(row).encode(), digest_size=16).hexdigest())
        strata.append(place)
    train, held_out = split(prints, eval_split, order.seed, strata)
    return len(train), set(held_out)


def _batches(rows: Iterator[tuple[int, Canonical]]) -> Iterator[list[Canonical]]:
    while batch := [row for _, row in islice(rows, BATCH)]:
        yield batch
