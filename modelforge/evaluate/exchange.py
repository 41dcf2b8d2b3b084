"""Answers or style: the right answers against the same answers, exchanged among the questions.

A model that has only learned how answers look finds every answer of the data likelier, whatever
the question. One that has learned what is answered finds the right answer likelier, compared with
the answers to other questions. In blocks of questions every answer is read behind every question,
so that a change that depends on the question or on the answer alone adds up to zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelforge.diagnosis.comparison import FEWEST_ROWS, compare
from modelforge.evaluate.cases import Case

Kind = Literal["answers", "style", "nothing", "too-few-rows"]
# Answers of similar length are exchanged, within blocks of so many rows.
BLOCK = 4
# By how much the gap between right and exchanged answers must grow, in nats per token, and with
# which chance at most it grows so much in a model that has learned no answers.
WORTH_HAVING, CHANCE = 0.05, 0.005
_PERMUTATIONS = 10_000


@dataclass(frozen=True)
class Block:
    """Rows whose answers are exchanged.

    Attributes:
        rows: Indices of the cases.
        differs: bool (rows, rows): whether the answers of two rows differ.
    """

    rows: list[int]
    differs: NDArray[np.bool_]


@dataclass(frozen=True)
class Learned:
    """What was learned; losses are means over the rows in nats per token."""

    kind: Kind
    sentence: str
    rows: int
    right: tuple[float, float]
    exchanged: tuple[float, float]

    def as_dict(self) -> dict[str, Any]:
        """Return the entry of the report."""
        names = ("base", "tuned")
        return {
            "kind": self.kind,
            "sentence": self.sentence,
            "rows": self.rows,
            "right": dict(zip(names, self.right, strict=True)),
            "exchanged": dict(zip(names, self.exchanged, strict=True)),
        }


def exchange_blocks(cases: Sequence[Case]) -> list[Block]:
    """Return blocks of rows with answers of similar length.

    Cases without an answer, and blocks of equal answers, are left out.
    """
    usable = [index for index, case in enumerate(cases) if case.answer]
    order = sorted(usable, key=lambda index: (len(cases[index].answer), _shuffle_key(cases[index])))
    blocks = []
    for rows in _parts(order):
        answers = [cases[index].answer for index in rows]
        differs = np.array([[one != other for other in answers] for one in answers])
        if differs.any():
            blocks.append(Block(rows, differs))
    return blocks


def decide_learning(blocks: Sequence[Block], base: ArrayLike, tuned: ArrayLike) -> Learned:
    """Return what was learned.

    Args:
        blocks: what was exchanged.
        base: losses of the base model in nats per token: block by block, each answer of it behind
            each of its questions.
        tuned: those of the tuned model.
    """
    before, after = _matrices(blocks, base), _matrices(blocks, tuned)
    differs = [block.differs for block in blocks]
    # The loss of the right answer in the place of each exchanged one.
    right = [_over(differs, [_right(matrix) for matrix in model]) for model in (before, after)]
    exchanged = [_over(differs, model) for model in (before, after)]
    growth = (exchanged[1] - right[1]) - (exchanged[0] - right[0])
    rows = sum(len(block.rows) for block in blocks)
    gain = float(growth.mean()) if len(growth) else 0.0
    if rows < FEWEST_ROWS:
        kind: Kind = "too-few-rows"
    elif gain >= WORTH_HAVING:
        # It may be chance: then more rows would tell.
        changes = [new - old for new, old in zip(after, before, strict=True)]
        kind = "answers" if _permutation_test(changes) < CHANCE else "too-few-rows"
    else:
        own = [np.concatenate([matrix.diagonal() for matrix in model]) for model in (before, after)]
        fell = compare(own[0], own[1], direction="lower", worth_having=WORTH_HAVING)
        kind = "style" if fell.kind == "better" else "nothing"
    means = [float(losses.mean()) if len(losses) else 0.0 for losses in (*right, *exchanged)]
    sentence = _sentence(kind, rows, gain, means[:2], means[2:])
    return Learned(kind, sentence, rows, (means[0], means[1]), (means[2], means[3]))


def _matrices(blocks: Sequence[Block], losses: ArrayLike) -> list[NDArray[np.float64]]:
    """Return the losses of each block as (questions, answers)."""
    values = np.asarray(losses, np.float64)
    ends = np.cumsum([len(block.rows) ** 2 for block in blocks])
    parts = np.split(values, ends[:-1]) if blocks else []
    return [part.reshape(block.differs.shape) for part, block in zip(parts, blocks, strict=True)]


def _right(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.broadcast_to(matrix.diagonal()[:, None], matrix.shape)


def _over(
    masks: Sequence[NDArray[np.bool_]], matrices: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return the values of all blocks where answers differ."""
    kept = [matrix[mask] for mask, matrix in zip(masks, matrices, strict=True)]
    return np.concatenate([np.zeros(0), *kept])


def _permutation_test(changes: Sequence[NDArray[np.float64]]) -> float:
    """Return how often answers that are exchanged at random gain as much as the right ones.

    Args:
        changes: for each block the changes of the losses, (questions, answers).
    """
    generator = np.random.default_rng(0)
    exchanged = np.zeros(_PERMUTATIONS)
    for matrix in changes:
        size = len(matrix)
        answers = generator.random((_PERMUTATIONS, size)).argsort(axis=1)
        exchanged += matrix[np.arange(size), answers].sum(axis=1)
    right = sum(float(matrix.trace()) for matrix in changes)
    as_low = int((exchanged <= right + 1e-9 * abs(right)).sum())
    return (as_low + 1) / (_PERMUTATIONS + 1)


def _sentence(
    kind: Kind, rows: int, gain: float, right: list[float], exchanged: list[float]
) -> str:
    if kind == "too-few-rows":
        why = f"{FEWEST_ROWS} are the least."
        if rows >= FEWEST_ROWS:
            why = (
                f"right answers gained {gain:.2f} nats per token more than exchanged "
                "ones, which may be chance."
            )
        return f"{rows} evaluation rows are too few to tell answers from style: {why}"
    change = f"from {right[0]:.2f} to {right[1]:.2f} nats per token"
    other = f"from {exchanged[0]:.2f} to {exchanged[1]:.2f}"
    if kind == "answers":
        return (
            f"The answers: the loss of right answers went {change}, that of the same answers given "
            f"to other questions {other}."
        )
    if kind == "style":
        return (
            f"The style: the loss of right answers went {change}, and that of the same answers "
            f"given to other questions {other}. Nothing shows that the answers were learned."
        )
    return (
        f"Nothing that these rows show: the loss of right answers went {change}, that of the same "
        f"answers given to other questions {other}."
    )


def _parts(order: list[int]) -> Iterator[list[int]]:
    """Return neighbours in blocks of nearly equal size; one row alone is none."""
    count = max(1, len(order) // BLOCK)
    bounds = [round(part * len(order) / count) for part in range(count + 1)]
    return (order[start:end] for start, end in pairwise(bounds) if end - start > 1)


def _shuffle_key(case: Case) -> bytes:
    text = repr((case.number, case.question, case.expected))
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
