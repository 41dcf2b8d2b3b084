"""The data of a run to two tables of tokens, the rows to train on and those held out."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from datasets import Dataset

from modelforge.data.canonical.convert import Canonical, fingerprint
from modelforge.data.checks.summary import sha256_of
from modelforge.data.sources.load import Record, iterate_rows, source_entries
from modelforge.data.sources.split import split_indices
from modelforge.modeling.errors import WorkerError
from modelforge.modeling.tokenize.counters import TokenizeCounts
from modelforge.modeling.tokenize.encode import TokenizedExample
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.template import ChatTemplate

Progress = Callable[[int, int], None]

BATCH_SIZE = 256
EVERY_S = 0.25
_TOKENS = pa.list_(pa.int32())
_SCHEMA = pa.schema({"input_ids": _TOKENS, "labels": _TOKENS})
NO_EVALUATION = "no-evaluation", "No held-out row has an answer left to check on."


@dataclass
class Tokenized:
    """Both tables, and what happened to the rows on the way. Token counts are of training rows.

    `kept` are held-out rows as they were read, to ask the model about.
    """

    train: Dataset
    eval: Dataset | None
    trained_tokens: int = 0
    all_tokens: int = 0
    truncated_rows: int = 0
    dropped_rows: int = 0
    notes: list[tuple[str, str]] = field(default_factory=list)
    eval_rows: list[Canonical] = field(default_factory=list)


class SplitTable(Protocol):
    """The rows to train on, or those held out: what became of them, and what is left."""

    counts: TokenizeCounts

    def dataset(self) -> Dataset:
        """Return the rows that are left, as the columns that a trainer reads."""


@dataclass(frozen=True)
class DatasetRequest:
    """What to read and how: the run's record of its data, and three settings.

    So many held-out rows are to be kept as they were read.
    """

    dataset: Record
    eval_split: float
    seed: int
    options: TokenizeOptions
    keep_eval_rows: int = 0


def tokenize(order: DatasetRequest, dialect: ChatTemplate, progress: Progress) -> Tokenized:
    """Return the tokens of every row; `progress` hears rows done and rows in all, now and then.

    Rows without a trained token are left out and counted. Raises WorkError `nothing-to-learn`
    when none is left to train on, and DataError when a file cannot be read any more.
    """
    halves = _Half(order.options), _Half(order.options, held_out=True)
    kept = ReservoirSample(order.keep_eval_rows, order.seed)
    for batch in _batches(iter_split_rows(order, progress)):
        encoded = order.options.encode([row for row, _ in batch], dialect)
        for (row, is_held_out), found in zip(batch, encoded, strict=True):
            halves[is_held_out].take(row, found)
            if is_held_out:
                kept.add(row)
    return finish(halves, order, dialect, kept.rows)


def iter_split_rows(order: DatasetRequest, progress: Progress) -> Iterator[tuple[Canonical, bool]]:
    """Yield every row and whether it is held out; those with a source of their own come last."""
    apart = bool(source_entries(order.dataset, "validation"))
    train, aside = _split(order, 0.0 if apart else order.eval_split)
    tally = _Tally(progress, train + len(aside))
    for index, (_, row) in enumerate(iterate_rows(order.dataset, order.seed)):
        yield row, index in aside
        tally.say(index + 1)
    if apart:
        for _, row in iterate_rows(order.dataset, order.seed, "validation"):
            yield row, True


def finish(
    halves: tuple[SplitTable, SplitTable],
    order: DatasetRequest,
    dialect: ChatTemplate,
    kept: Sequence[Canonical] = (),
) -> Tokenized:
    """Return both tables and what is to be said of them.

    Raises WorkError `nothing-to-learn` when no row is left to train on.
    """
    train, held_out = halves
    if not train.counts.trained_tokens:
        raise WorkerError("nothing-to-learn", train.counts.nothing_to_learn(order.options))
    checked = held_out.dataset() if held_out.counts.trained_tokens else None
    both = train.counts + held_out.counts
    notes = list(both.notes(order.options, dialect))
    if held_out.counts.rows and checked is None:
        notes.append(NO_EVALUATION)
    return Tokenized(
        train=train.dataset(),
        eval=checked,
        trained_tokens=train.counts.trained_tokens,
        all_tokens=train.counts.all_tokens,
        truncated_rows=both.truncated,
        dropped_rows=both.dropped,
        notes=notes,
        eval_rows=list(kept),
    )


def changed_files(dataset: Record) -> list[str]:
    """Return the names of sources that are others than at the first look; none that are gone."""
    changed = []
    for entry in (*source_entries(dataset), *source_entries(dataset, "validation")):
        files = [Path(file) for file in entry["files"]]
        try:
            if entry.get("sha256") and sha256_of(files) != entry["sha256"]:
                changed.append(files[0].name if len(files) == 1 else files[0].parent.name)
        except OSError:
            continue
    return changed


class ReservoirSample:
    """A fair draw of held-out rows, of which each that comes has the same chance to stay."""

    def __init__(self, most: int, seed: int) -> None:
        self._most = most
        self._random = random.Random(seed)
        self._seen = 0
        self.rows: list[Canonical] = []

    def add(self, row: Canonical) -> None:
        """Keep the row, perhaps in place of another."""
        self._seen += 1
        if len(self.rows) < self._most:
            self.rows.append(row)
        elif (place := self._random.randrange(self._seen)) < self._most:
            self.rows[place] = row


class TableBuilder:
    """Rows of numbers to a table, a batch at a time: Python's own take five times the memory."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._tables: list[pa.Table] = []
        self._rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        """Add one row."""
        self._rows.append(row)
        if len(self._rows) >= BATCH_SIZE:
            self._pack()

    def dataset(self) -> Dataset:
        """Return all rows."""
        self._pack()
        return Dataset(pa.concat_tables(self._tables))

    def _pack(self) -> None:
        if self._rows or not self._tables:
            self._tables.append(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


class _Half:
    def __init__(self, manner: TokenizeOptions, *, held_out: bool = False) -> None:
        self._manner = manner
        self._held_out = held_out
        self._packer = TableBuilder(_SCHEMA)
        self.counts = TokenizeCounts()

    def take(self, row: Canonical, found: TokenizedExample) -> None:
        for piece in self.counts.add(row, found, self._manner, held_out=self._held_out):
            self._packer.add({"input_ids": piece.input_ids, "labels": piece.labels})

    def dataset(self) -> Dataset:
        return self._packer.dataset()


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


def _split(order: DatasetRequest, eval_split: float) -> tuple[int, set[int]]:
    """Return how many rows are trained on, and the numbers of those held out."""
    prints, strata = [], []
    for place, row in iterate_rows(order.dataset, order.seed):
        prints.append(hashlib.blake2b(fingerprint(row).encode(), digest_size=16).hexdigest())
        strata.append(place)
    train, held_out = split_indices(prints, eval_split, order.seed, strata)
    return len(train), set(held_out)


def _batches(
    rows: Iterator[tuple[Canonical, bool]],
) -> Iterator[list[tuple[Canonical, bool]]]:
    while batch := list(islice(rows, BATCH_SIZE)):
        yield batch
