"""Score a model on CORE: losses of continuations, or whether they are the likeliest tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from modelforge.data.core_tasks import CoreTask, Row


@dataclass(frozen=True)
class Predicted:
    """What a model predicts of a sequence of n tokens.

    Attributes:
        losses: (n - 1,) float; loss in nats of token i + 1 after the tokens up to i.
        likeliest: (n - 1,) int; the likeliest token at the place of token i + 1.
    """

    losses: NDArray[np.float64]
    likeliest: NDArray[np.int64]


@dataclass(frozen=True)
class Candidate:
    """A sequence with the tokens that are scored: those from `start` to before `end`."""

    ids: list[int]
    start: int
    end: int


Encode = Callable[[str], list[int]]
Predict = Callable[[Sequence[list[int]]], Sequence[Predicted]]


def candidates(task: CoreTask, index: int, encode: Encode, context: int) -> list[Candidate]:
    """Return the sequences of a row: one per option, or the only continuation.

    Sequences longer than `context` lose tokens at their beginning. `encode` puts the document
    token in front.
    """
    row = task.rows[index]
    shots = "".join(f"{text}\n\n" for text in map(task_text(task), task.examples(index)))
    if task.kind == "multiple_choice":
        texts = [f"{row['query']}{task.delimiter}{choice}" for choice in row["choices"]]
    elif task.kind == "schema":
        texts = [f"{each}{task.delimiter}{row['continuation']}" for each in row["context_options"]]
    else:
        asked = f"{row['context'].strip()}{task.delimiter}"
        texts = [f"{asked}{row['continuation']}"]
    tokens = [encode(shots + text) for text in texts]
    if task.kind == "multiple_choice":
        # An option that another one begins with still has a token that is scored: its last.
        first = min(_common(tokens), min(map(len, tokens)) - 1)
        spans = [(first, len(ids)) for ids in tokens]
    elif task.kind == "schema":
        last = _common([ids[::-1] for ids in tokens])
        spans = [(len(ids) - last, len(ids)) for ids in tokens]
    else:
        # The space before a continuation belongs to its first token.
        before = encode((shots + asked).rstrip())
        spans = [(_common([before, tokens[0]]), len(tokens[0]))]
    return [
        _shortened(Candidate(ids, *span), context) for ids, span in zip(tokens, spans, strict=True)
    ]


def task_text(task: CoreTask) -> Callable[[Row], str]:
    """Return how a row with its right answer is written as an example."""

    def written(row: Row) -> str:
        if task.kind == "multiple_choice":
            return f"{row['query']}{task.delimiter}{row['choices'][row['gold']]}"
        if task.kind == "schema":
            return f"{row['context_options'][row['gold']]}{task.delimiter}{row['continuation']}"
        return f"{row['context'].strip()}{task.delimiter}{row['continuation']}"

    return written


def is_right(
    task: CoreTask, index: int, asked: Sequence[Candidate], predicted: Sequence[Predicted]
) -> bool:
    """Return whether the model answers a row as it should."""
    if task.kind == "language_modeling":
        only, found = asked[0], predicted[0]
        place = slice(only.start - 1, only.end - 1)
        return bool(np.array_equal(found.likeliest[place], only.ids[only.start : only.end]))
    means = [
        found.losses[each.start - 1 : each.end - 1].mean()
        for each, found in zip(asked, predicted, strict=True)
    ]
    return int(np.argmin(means)) == task.rows[index]["gold"]


def accuracy(task: CoreTask, encode: Encode, predict: Predict, *, most: int, context: int) -> float:
    """Return the share of right answers among the first `most` rows of a task.

    Its examples are among these rows, too, as nanochat has it.
    """
    task = replace(task, rows=task.rows[:most])
    count = len(task.rows)
    right = 0
    for index in range(count):
        asked = candidates(task, index, encode, context)
        right += is_right(task, index, asked, predict([each.ids for each in asked]))
    return right / count


def _common(rows: Sequence[Sequence[int]]) -> int:
    """Return how many first tokens all rows share."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False)))


def _shortened(candidate: Candidate, context: int) -> Candidate:
    cut = max(0, len(candidate.ids) - context)
    # A token is scored after at least one other.
    start = max(1, candidate.start - cut)
    return Candidate(candidate.ids[cut:], start, candidate.end - cut)
