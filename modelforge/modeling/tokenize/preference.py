"""Answers compared or judged, as tokens: the question both share, then each answer alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import pyarrow as pa
from datasets import Dataset
from trl.trainer.dpo_trainer import DataCollatorForPreference

from modelforge.data.canonical.convert import Canonical
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError
from modelforge.modeling.tokenize.counters import TokenizeCounts
from modelforge.modeling.tokenize.dataset import (
    BATCH_SIZE,
    DatasetRequest,
    Progress,
    Tokenized,
    finish,
)
from modelforge.modeling.tokenize.dataset import iter_split_rows as rows_parted
from modelforge.modeling.tokenize.encode import IGNORE_INDEX, TokenizedExample, encode
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.template import ChatTemplate

_MODES = {"left": "keep_end", "right": "keep_start"}


@dataclass(frozen=True)
class PreferencePair:
    """One preference as tokens; both answers follow the same question."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def sides(self) -> tuple[TokenizedExample, TokenizedExample]:
        """The better and the worse answer, each behind the question."""
        return _behind(self.prompt, self.chosen), _behind(self.prompt, self.rejected)

    def as_columns(self) -> dict[str, list[int]]:
        """Return the columns that TRL's trainers of preferences read."""
        return {
            "prompt_ids": self.prompt,
            "chosen_ids": self.chosen,
            "rejected_ids": self.rejected,
        }


def encode_pair(row: dict[str, Any], dialect: ChatTemplate) -> PreferencePair | None:
    """Return a preference as tokens, or None where the template cannot write one of its answers.

    What follows the end token of an answer is left away, so that only the answer is compared.
    """
    better, worse = (_answered(row, row[part], dialect) for part in ("chosen", "rejected"))
    if better is None or worse is None:
        return None
    starts = min(_first(better), _first(worse))
    alike = zip(better.input_ids[:starts], worse.input_ids[:starts], strict=True)
    shared = sum(1 for _ in takewhile(lambda ids: ids[0] == ids[1], alike))
    return PreferencePair(
        better.input_ids[:shared], better.input_ids[shared:], worse.input_ids[shared:]
    )


def encode_unpaired(row: dict[str, Any], dialect: ChatTemplate) -> TokenizedExample | None:
    """Return a judged answer as tokens behind its question, or None as `encode_pair` does.

    What another than the model says within the answer is judged with it, as it is in a pair.
    """
    found = _answered(row, row["completion"], dialect)
    return (
        _behind(found.input_ids[: _first(found)], found.input_ids[_first(found) :])
        if found
        else None
    )


def split_prompt(answer: TokenizedExample) -> tuple[list[int], list[int]]:
    """Return the question and the answer of what `encode_judged` gave, whole or cut."""
    begins = _first(answer)
    return answer.input_ids[:begins], answer.input_ids[begins:]


def without_split(manner: TokenizeOptions) -> TokenizeOptions:
    """Return the manner for answers that are compared: in pieces, only the first has a question."""
    truncation = "right" if manner.truncation == "split" else manner.truncation
    return replace(manner, truncation=truncation, packing_truncates=False)


def fits(pair: PreferencePair, manner: TokenizeOptions) -> bool:
    """Say whether a pair is trained on: something of both answers is left, or nothing is cut."""
    longest = len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))
    if longest <= manner.max_length:
        return True
    if manner.truncation == "delete":
        return False
    return manner.truncation == "left" or len(pair.prompt) < manner.max_length


def pair_collator(manner: TokenizeOptions, pad: int) -> DataCollatorForPreference:
    """Return what lays pairs out as a batch and cuts them: the one that trains, and is shown."""
    return DataCollatorForPreference(
        pad_token_id=pad,
        max_length=manner.max_length,
        truncation_mode=_MODES.get(manner.truncation, "keep_start"),
    )


def collate_pairs(
    pairs: Sequence[PreferencePair], manner: TokenizeOptions, pad: int
) -> dict[str, Any]:
    """Return the batch that DPO sees: the chosen rows first, then the rejected ones."""
    batch: dict[str, Any] = pair_collator(manner, pad)([pair.as_columns() for pair in pairs])
    return batch


def _behind(question: list[int], answer: list[int]) -> TokenizedExample:
    return TokenizedExample([*question, *answer], [IGNORE_INDEX] * len(question) + answer)


def _answered(
    row: dict[str, Any], answer: list[dict[str, Any]], dialect: ChatTemplate
) -> TokenizedExample | None:
    """Return question and answer as tokens, with only the turns of the answer trained."""
    question = row["prompt"]
    whole = {"messages": [*question, *answer]} | {k: row[k] for k in ("tools",) if k in row}
    earlier = sum(turn["role"] == "assistant" for turn in question)
    (found,) = encode([whole], dialect, skip_answers=earlier)
    if not found.trained_tokens:
        return None
    last = max(at for at, label in enumerate(found.labels) if label != IGNORE_INDEX)
    return TokenizedExample(found.input_ids[: last + 1], found.labels[: last + 1])


def _first(row: TokenizedExample) -> int:
    return next(at for at, label in enumerate(row.labels) if label != IGNORE_INDEX)


_IDS = pa.list_(pa.int32())
# `length` is what batches of similar length are made by.
_PAIRS = pa.schema(
    {"prompt_ids": _IDS, "chosen_ids": _IDS, "rejected_ids": _IDS, "length": pa.int32()}
)
_JUDGED = pa.schema({"prompt_ids": _IDS, "completion_ids": _IDS, "label": pa.bool_()})

Columns = dict[str, Any]


def tokenize_pairs(order: DatasetRequest, dialect: ChatTemplate, progress: Progress) -> Tokenized:
    """Return every pair as tokens of its question and both answers; TRL's collator cuts them.

    Rows of which nothing can be compared are left out and counted. Raises WorkError when none is
    left, or for rows that are no pairs.
    """
    return _read(order, dialect, progress, _Pairs)


def tokenize_unpaired(
    order: DatasetRequest, dialect: ChatTemplate, progress: Progress
) -> Tokenized:
    """Return every judged answer as tokens, cut; a pair becomes a good answer and a bad one.

    The answers are shuffled by the seed, because KTO takes them in the order of the table and
    sets each against its neighbour. Raises WorkError as `read_pairs` does.
    """
    found = _read(order, dialect, progress, _Judged)
    found.train = _shuffled(found.train, order.seed)
    if found.eval is not None:
        found.eval = _shuffled(found.eval, order.seed)
    return found


class _Half:
    """One of the two tables while it grows."""

    schema: pa.Schema

    def __init__(self, dialect: ChatTemplate, manner: TokenizeOptions) -> None:
        self.counts = TokenizeCounts()
        self._dialect = dialect
        self._manner = manner
        self._rows: list[Columns] = []
        self._tables: list[pa.Table] = []

    def take(self, row: Canonical) -> None:
        self._rows += self.columns(row)
        if len(self._rows) >= BATCH_SIZE:
            self._pack()

    def columns(self, row: Canonical) -> Iterator[Columns]:
        raise NotImplementedError

    def dataset(self) -> Dataset:
        self._pack()
        return Dataset(pa.concat_tables(self._tables))

    def _pack(self) -> None:
        self._tables.append(pa.Table.from_pylist(self._rows, schema=self.schema))
        self._rows = []


class _Pairs(_Half):
    schema = _PAIRS

    def columns(self, row: Canonical) -> Iterator[Columns]:
        """Yield the pair, if something of both of its answers is left to compare."""
        if "chosen" not in row:
            raise WorkerError("wrong-kind", _no_pair())
        counts, manner = self.counts, self._manner
        pair = encode_pair(row, self._dialect)
        sides = pair.sides if pair else ()
        kept = sides if pair and fits(pair, manner) else ()
        longest = max((len(side.input_ids) for side in sides), default=0)
        is_long = longest > manner.max_length
        counts.rows += 1
        counts.truncated += is_long
        counts.dropped += not kept and not (is_long and manner.truncation == "delete")
        counts.with_tools += "tools" in row
        for piece in (piece for side in kept for piece in manner.truncate(side)):
            counts.trained_tokens += piece.trained_tokens
            counts.all_tokens += len(piece.input_ids)
        if pair and kept:
            yield {**pair.as_columns(), "length": longest}


class _Judged(_Half):
    schema = _JUDGED

    def columns(self, row: Canonical) -> Iterator[Columns]:
        """Yield the answer, or both answers of a pair, each with what is thought of it."""
        for answer in _answers(row):
            found = encode_unpaired(answer, self._dialect) or TokenizedExample([], [])
            for piece in self.counts.add(answer, found, self._manner):
                question, completion = split_prompt(piece)
                yield {
                    "prompt_ids": question,
                    "completion_ids": completion,
                    "label": answer["label"],
                }


def _read(
    order: DatasetRequest, dialect: ChatTemplate, progress: Progress, kind: type[_Half]
) -> Tokenized:
    order = replace(order, options=without_split(order.options))
    halves = kind(dialect, order.options), kind(dialect, order.options)
    for row, held_out in rows_parted(order, progress):
        halves[held_out].take(row)
    return finish(halves, order, dialect)


def _answers(row: Canonical) -> Iterator[Canonical]:
    if "completion" in row:
        yield row
        return
    if "chosen" not in row:
        raise WorkerError("wrong-kind", _not_judged())
    shared: Canonical = {name: row[name] for name in ("prompt", "tools") if name in row}
    yield {**shared, "completion": row["chosen"], "label": True}
    yield {**shared, "completion": row["rejected"], "label": False}


def _shuffled(table: Dataset, seed: int) -> Dataset:
    shuffled = table.shuffle(seed=seed, keep_in_memory=True)
    return shuffled.flatten_indices(keep_in_memory=True)


def _no_pair() -> Problem:
    return Problem(
        "dataset",
        "A row holds no pair of a better and a worse answer, which is what is compared.",
        "Give rows with prompt, chosen and rejected; for answers marked good or bad choose the "
        "preference loss kto.",
    )


def _not_judged() -> Problem:
    return Problem(
        "dataset",
        "A row holds neither an answer marked good or bad nor a pair of answers.",
        "Give rows with prompt, completion and label, or with prompt, chosen and rejected.",
    )
