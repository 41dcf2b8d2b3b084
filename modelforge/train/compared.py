"""Rows of preferences as tokens: pairs, or single answers, to train on and to check on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from datasets import Dataset

from modelforge.config.method import Method
from modelforge.data.chat import Canonical
from modelforge.errors import Problem
from modelforge.train.dialect import Dialect
from modelforge.train.failures import WorkError
from modelforge.train.manner import Manner
from modelforge.train.pairs import Pair, encode_judged, encode_pair, fits
from modelforge.train.tokens import IGNORED

_IDS = pa.list_(pa.int32())
_PAIRS = pa.schema({"prompt_ids": _IDS, "chosen_ids": _IDS, "rejected_ids": _IDS})
_ANSWERS = pa.schema({"prompt_ids": _IDS, "completion_ids": _IDS, "label": pa.bool_()})


@dataclass
class Compared:
    """Both tables, and what became of the rows. Tokens are of training rows, both answers."""

    train: Dataset
    held_out: Dataset | None
    trained_tokens: int = 0
    all_tokens: int = 0
    cut: int = 0
    dropped: int = 0
    notes: list[tuple[str, str]] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Return what the plan event says of rows and tokens."""
        return {
            "train_rows": len(self.train),
            "eval_rows": len(self.held_out) if self.held_out is not None else 0,
            "trained_tokens": self.trained_tokens,
            "all_tokens": self.all_tokens,
            "truncated_rows": self.cut,
        }


@dataclass(frozen=True)
class Answer:
    """One answer as tokens behind its question, and whether it is a good one."""

    prompt: list[int]
    completion: list[int]
    good: bool


def read_compared(
    rows: Iterable[tuple[Canonical, bool]], dialect: Dialect, manner: Manner, method: Method
) -> Compared:
    """Return rows, each told with whether it is held out, as the columns that TRL's trainers read.

    For kto the two answers of a pair count as one good and one bad. Raises WorkError when no row
    is left to learn from.
    """
    schema = _ANSWERS if method == "kto" else _PAIRS
    halves: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    told = Compared(Dataset.from_list([]), None)
    seen = 0
    for row, held_out in rows:
        seen += 1
        made = list(
            _judged(row, dialect, manner) if method == "kto" else _pair(row, dialect, manner)
        )
        told.dropped += not made
        for columns, was_cut in made:
            halves[held_out].append(columns)
            told.cut += was_cut
            if not held_out:
                _count(told, columns)
    if not halves[0]:
        raise WorkError("nothing-to-learn", _nothing(seen, manner))
    told.train = _table(halves[0], schema)
    told.held_out = _table(halves[1], schema) if halves[1] else None
    told.notes = list(_notes(told, manner))
    return told


def cut_answer(answer: Answer, manner: Manner) -> Answer | None:
    """Return the answer within the longest row, or None where nothing of it would be left."""
    prompt, completion, most = answer.prompt, answer.completion, manner.max_length
    excess = len(prompt) + len(completion) - most
    if excess <= 0:
        return answer
    if manner.truncation == "delete" or (manner.truncation != "left" and len(prompt) >= most):
        return None
    if manner.truncation == "left":
        return Answer(prompt[excess:], completion[-most:], answer.good)
    return Answer(prompt, completion[: most - len(prompt)], answer.good)


def _pair(
    row: Canonical, dialect: Dialect, manner: Manner
) -> Iterator[tuple[dict[str, Any], bool]]:
    pair = encode_pair(row, dialect) if "chosen" in row else None
    if pair is not None and fits(pair, manner):
        longest = len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))
        yield pair.as_row(), longest > manner.max_length


def _judged(
    row: Canonical, dialect: Dialect, manner: Manner
) -> Iterator[tuple[dict[str, Any], bool]]:
    for whole in _answers(row, dialect):
        answer = cut_answer(whole, manner)
        if answer is not None:
            columns = {"prompt_ids": answer.prompt, "completion_ids": answer.completion}
            yield columns | {"label": answer.good}, answer is not whole


def _answers(row: Canonical, dialect: Dialect) -> Iterator[Answer]:
    if "chosen" in row:
        pair: Pair | None = encode_pair(row, dialect)
        if pair is not None:
            yield Answer(pair.prompt, pair.chosen, good=True)
            yield Answer(pair.prompt, pair.rejected, good=False)
        return
    found = encode_judged(row, dialect) if "completion" in row else None
    if found is not None:
        begin = next(at for at, label in enumerate(found.labels) if label != IGNORED)
        yield Answer(found.ids[:begin], found.ids[begin:], good=row["label"])


def _count(told: Compared, columns: dict[str, Any]) -> None:
    answers = [
        ids for name, ids in columns.items() if name.endswith("_ids") and name != "prompt_ids"
    ]
    told.trained_tokens += sum(len(ids) for ids in answers)
    told.all_tokens += sum(len(ids) + len(columns["prompt_ids"]) for ids in answers)


def _table(rows: list[dict[str, Any]], schema: pa.Schema) -> Dataset:
    return Dataset(pa.Table.from_pylist(rows, schema=schema))


def _notes(told: Compared, manner: Manner) -> Iterator[tuple[str, str]]:
    if told.cut:
        where = "only the end is kept" if manner.truncation == "left" else "cut there"
        text = f"{told.cut:,} answers are longer than {manner.max_length:,} tokens and {where}."
        yield "rows-cut", text
    if told.dropped:
        text = f"{told.dropped:,} rows left out: an answer is missing, alike or does not fit."
        yield "rows-dropped", text


def _nothing(seen: int, manner: Manner) -> Problem:
    return Problem(
        "dataset",
        f"None of the {seen:,} rows has answers to compare within {manner.max_length:,} tokens.",
        "Raise the longest row (max_seq_length), or give rows with prompt, chosen and rejected.",
    )
