"""The evaluation rows of a run, exactly as its training has kept them apart.

Rows are chosen by a hash of their text, so that a larger sample contains a smaller one, and what
was computed for one evaluation serves the next.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.canonical.convert import Canonical, fingerprint
from modelforge.data.sources.load import source_entries
from modelforge.modeling.tokenize.dataset import DatasetRequest, changed_files, iter_split_rows
from modelforge.modeling.tokenize.options import TokenizeOptions

Progress = Callable[[int, int], None]
# Prompts of training rows that are compared with each other; a long file is not held in memory.
MAX_PROMPTS = 100_000


@dataclass(frozen=True)
class NumberedRow:
    """A canonical row and its number from 1 among the rows of the run, in their order."""

    number: int
    row: Canonical


@dataclass
class RunRows:
    """Rows of a run.

    Attributes:
        evaluation: A sample of the evaluation rows, none of which is also a training row.
        training: A sample of the training rows.
        evaluation_count, training_count: All rows of either kind.
        left_out: Evaluation rows that are training rows as well.
        repeated: Evaluation rows that repeat others, which count once.
        contradicting: Numbers of training rows with the same question and different answers.
    """

    evaluation: list[NumberedRow] = field(default_factory=list)
    training: list[NumberedRow] = field(default_factory=list)
    evaluation_count: int = 0
    training_count: int = 0
    left_out: int = 0
    repeated: int = 0
    contradicting: list[list[NumberedRow]] = field(default_factory=list)


def run_request(record: dict[str, Any], plan: Plan) -> DatasetRequest:
    """Return the request for the rows of a run, from its record: same split, seed and options."""
    settings = TrainingConfig.from_record(record["config"])
    options = TokenizeOptions.from_plan(settings, plan)
    return DatasetRequest(record["dataset"], settings.eval_split, settings.trainer.seed, options)


def count_rows(record: dict[str, Any]) -> int:
    """Return the number of rows in the files of a run, both training and evaluation."""
    dataset = record["dataset"]
    entries = (*source_entries(dataset), *source_entries(dataset, "validation"))
    return sum(entry["rows"] for entry in entries)


def iter_evaluation_rows(request: DatasetRequest) -> Iterator[Canonical]:
    """Yield the evaluation rows of a run, in their order."""
    for row, is_eval in iter_split_rows(request, lambda _done, _total: None):
        if is_eval:
            yield row


def read_run_rows(
    request: DatasetRequest,
    progress: Progress,
    *,
    evaluation: int,
    training: int,
    seed: int,
    is_usable: Callable[[Canonical], bool] = lambda _row: True,
) -> RunRows:
    """Return samples of the evaluation and the training rows of a run, of at most these sizes.

    The evaluation rows are checked against every training row. The same seed draws the same rows;
    a larger sample contains a smaller one. Rows that are not `is_usable`, because the training
    leaves them out, are in neither.

    Raises:
        DataError: A file can no longer be read, or one side of the split is empty.
    """
    result = RunRows()
    trained, held = set[bytes](), set[bytes]()
    samples = _Smallest(training, f"train:{seed}"), _Smallest(evaluation, f"eval:{seed}", spare=4)
    prompts, number = _Prompts(), 0
    for number, (row, is_eval) in enumerate(iter_split_rows(request, progress), 1):
        numbered, digest = NumberedRow(number, row), _digest(row)
        result.evaluation_count += is_eval
        (held if is_eval else trained).add(digest)
        if not is_eval:
            prompts.add(numbered)
        samples[is_eval].add(digest, numbered)
    drawn = samples[1].ordered()
    # With data of its own for evaluation, training rows may be among it.
    unseen = [numbered for digest, numbered in drawn if digest not in trained]
    result.left_out = len(drawn) - len(unseen)
    result.evaluation = list(islice((row for row in unseen if is_usable(row.row)), evaluation))
    result.training = [row for _digest, row in samples[0].ordered() if is_usable(row.row)]
    result.repeated = result.evaluation_count - len(held)
    result.training_count = number - result.evaluation_count
    result.contradicting = prompts.contradicting()
    return result


def changed_sources(record: dict[str, Any]) -> list[str]:
    """Return the names of sources whose files are others than those that the run trained on."""
    return changed_files(record["dataset"])


class _Smallest:
    """The rows with the smallest keyed hashes: a random sample that grows with its size."""

    def __init__(self, size: int, key: str, spare: int = 1) -> None:
        # Some rows of the sample may turn out to be unusable.
        self._size, self._key = size * spare, hashlib.blake2b(key.encode()).digest()[:16]
        self._heap: list[tuple[int, int, bytes, NumberedRow]] = []
        self._members: set[bytes] = set()

    def add(self, digest: bytes, row: NumberedRow) -> None:
        if digest in self._members or not self._size:
            return
        rank = hashlib.blake2b(digest, key=self._key, digest_size=8).digest()
        # The heap has the largest rank first, to be replaced.
        item = (-int.from_bytes(rank, "big"), -row.number, digest, row)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, item)
        elif item[:2] < self._heap[0][:2]:
            return
        else:
            self._members.discard(heapq.heapreplace(self._heap, item)[2])
        self._members.add(digest)

    def ordered(self) -> list[tuple[bytes, NumberedRow]]:
        """Return digests and rows in the order of their ranks; copies of a row come once."""
        ranked = sorted(self._heap, key=lambda item: item[:2], reverse=True)
        return [(digest, row) for _rank, _number, digest, row in ranked]


class _Prompts:
    """Finds questions that training rows answer differently, as `other-answers` of the checks."""

    def __init__(self) -> None:
        self._answers: dict[str, dict[str, NumberedRow]] = {}

    def add(self, numbered: NumberedRow) -> None:
        messages = numbered.row.get("messages", [])
        if len(self._answers) >= MAX_PROMPTS or len(messages) < 2:
            return
        if messages[-1]["role"] != "assistant":
            return
        question = fingerprint({"messages": messages[:-1]})
        answer = fingerprint({"messages": messages[-1:]})
        self._answers.setdefault(question, {}).setdefault(answer, numbered)

    def contradicting(self) -> list[list[NumberedRow]]:
        return [list(rows.values()) for rows in self._answers.values() if len(rows) > 1]


def _digest(row: Canonical) -> bytes:
    return hashlib.blake2b(fingerprint(row).encode(errors="surrogatepass"), digest_size=16).digest()
