"""Tokenize the data of a run into two datasets, for training and for evaluation."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

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
REPORT_EVERY_S = 0.25
_TOKENS = pa.list_(pa.int32())
_SCHEMA = pa.schema({"input_ids": _TOKENS, "labels": _TOKENS})
# Column with the index of a training row among the rows of the run.
ROW = "row"
# Column with the weight of the loss of each token of a training row, where there are weights.
LOSS_WEIGHTS = "loss_weights"
_TRAIN_SCHEMA = _SCHEMA.append(pa.field(ROW, pa.int32()))
_WEIGHTED_SCHEMA = _TRAIN_SCHEMA.append(pa.field(LOSS_WEIGHTS, pa.list_(pa.float32())))
NO_EVALUATION = "no-evaluation", "No evaluation row has a trained token."


@dataclass(frozen=True)
class DatasetRequest:
    """Which data to tokenize, and how.

    `eval_split` is the share of rows for evaluation, used if no source is for evaluation alone;
    `keep_eval_rows` is the size of the sample of evaluation rows for generation.
    """

    dataset: Record
    eval_split: float
    seed: int
    options: TokenizeOptions
    keep_eval_rows: int = 0


@dataclass
class Tokenized:
    """The datasets for training and evaluation, with counts and notes.

    The columns are those of the trainer, with token ids as int32 lists; training rows for SFT also
    have their index among the rows of the run. Tokens are counted in
    `train`, rows in both. `notes` are pairs of code and text for the user; `eval_rows` is a sample
    of the evaluation rows in canonical form.
    """

    train: Dataset
    eval: Dataset | None
    trained_tokens: int = 0
    all_tokens: int = 0
    truncated_rows: int = 0
    dropped_rows: int = 0
    notes: list[tuple[str, str]] = field(default_factory=list)
    eval_rows: list[Canonical] = field(default_factory=list)


def tokenize(request: DatasetRequest, template: ChatTemplate, progress: Progress) -> Tokenized:
    """Tokenize all rows; `progress` receives the number of done rows and the total.

    Rows without a trained token are left out and counted.

    Raises:
        WorkerError: `nothing-to-learn` if no training row is left.
        DataError: A file can no longer be read.
    """
    options = request.options
    schema = _WEIGHTED_SCHEMA if options.weights.is_active else _TRAIN_SCHEMA
    splits = TableBuilder(schema), TableBuilder(_SCHEMA)
    sample = ReservoirSample(request.keep_eval_rows, request.seed)
    rows = enumerate(iter_split_rows(request, progress))
    while batch := list(islice(rows, BATCH_SIZE)):
        examples = options.encode([row for _, (row, _is_eval) in batch], template)
        for (index, (row, is_eval)), example in zip(batch, examples, strict=True):
            split = splits[is_eval]
            for part in split.counts.add(row, example, options, is_eval=is_eval):
                row_of_table = {"input_ids": part.input_ids, "labels": part.labels, ROW: index}
                split.add(row_of_table | {LOSS_WEIGHTS: part.weights or _ones(part)})
            if is_eval:
                sample.add(row)
    return finish(splits, request, template, sample.rows)


def _ones(example: TokenizedExample) -> list[float]:
    return [1.0] * len(example.input_ids)


def iter_split_rows(
    request: DatasetRequest, progress: Progress
) -> Iterator[tuple[Canonical, bool]]:
    """Yield every row and whether it is for evaluation; evaluation sources come last."""
    has_own_source = bool(source_entries(request.dataset, "validation"))
    train, eval_indices = _split(request, 0.0 if has_own_source else request.eval_split)
    reporter = _ThrottledProgress(progress, train + len(eval_indices))
    for index, (_, row) in enumerate(iterate_rows(request.dataset, request.seed)):
        yield row, index in eval_indices
        reporter.report(index + 1)
    if has_own_source:
        for _, row in iterate_rows(request.dataset, request.seed, "validation"):
            yield row, True


def finish(
    splits: tuple[TableBuilder, TableBuilder],
    request: DatasetRequest,
    template: ChatTemplate,
    eval_rows: Sequence[Canonical] = (),
) -> Tokenized:
    """Return both datasets with their counts and notes.

    Raises:
        WorkerError: `nothing-to-learn` if no training row is left.
    """
    train, evaluation = splits
    if not train.counts.trained_tokens:
        raise WorkerError("nothing-to-learn", train.counts.nothing_to_learn(request.options))
    eval_dataset = evaluation.dataset() if evaluation.counts.trained_tokens else None
    both = train.counts + evaluation.counts
    notes = list(both.notes(request.options, template))
    if evaluation.counts.rows and eval_dataset is None:
        notes.append(NO_EVALUATION)
    return Tokenized(
        train=train.dataset(),
        eval=eval_dataset,
        trained_tokens=train.counts.trained_tokens,
        all_tokens=train.counts.all_tokens,
        truncated_rows=both.truncated,
        dropped_rows=both.dropped,
        notes=notes,
        eval_rows=list(eval_rows),
    )


def changed_files(dataset: Record) -> list[str]:
    """Return the names of sources that changed since they were checked; ignores missing files."""
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
    """A uniform random sample of at most `size` rows from a stream."""

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._random = random.Random(seed)
        self._seen = 0
        self.rows: list[Canonical] = []

    def add(self, row: Canonical) -> None:
        """Add the row, possibly in place of another one."""
        self._seen += 1
        if len(self.rows) < self._size:
            self.rows.append(row)
            return
        index = self._random.randrange(self._seen)
        if index < self._size:
            self.rows[index] = row


class TableBuilder:
    """Builds an Arrow table from rows, a batch at a time to save memory, and counts them."""

    def __init__(self, schema: pa.Schema) -> None:
        self.counts = TokenizeCounts()
        self._schema = schema
        self._tables: list[pa.Table] = []
        self._rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        """Add one row."""
        self._rows.append(row)
        if len(self._rows) >= BATCH_SIZE:
            self._flush()

    def dataset(self) -> Dataset:
        """Return all rows."""
        self._flush()
        return Dataset(pa.concat_tables(self._tables))

    def _flush(self) -> None:
        if self._rows or not self._tables:
            self._tables.append(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


class _ThrottledProgress:
    """Reports progress a few times per second, and at the end."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._last = 0.0

    def report(self, done: int) -> None:
        now = time.monotonic()
        if done >= self._total or now - self._last >= REPORT_EVERY_S:
            self._last = now
            self._progress(done, self._total)


def _split(request: DatasetRequest, eval_split: float) -> tuple[int, set[int]]:
    """Return the number of training rows and the indices of evaluation rows."""
    fingerprints, strata = [], []
    for source, row in iterate_rows(request.dataset, request.seed):
        digest = hashlib.blake2b(fingerprint(row).encode(), digest_size=16)
        fingerprints.append(digest.hexdigest())
        strata.append(source)
    train, evaluation = split_indices(fingerprints, eval_split, request.seed, strata)
    return len(train), set(evaluation)
