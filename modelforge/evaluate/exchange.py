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

from modelforge.diagnosis.comparison import FEWEST_ROWS, Difference, compare
from modelforge.evaluate.cases import Case

Kind = Literal["answers", "style", "nothing", "too-few-rows"]
# Answers of similar length are exchanged, within blocks of so many rows.
BLOCK = 4
# By how much the gap between right and exchanged answers must grow, in nats per token, and with
# which chance at most it grows so much in a model that has learned no answers.
WORTH_HAVING, CHANCE = 0.05, 0.005
# A gain that is this likely is no sign of learned answers, if the rows would have shown a gain of
# this share of what the loss has fallen.
DOUBTFUL, SHARE = 0.05, 0.1
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
class Gain:
    """What right answers gained over exchanged ones, in nats per token.

    Attributes:
        value: By how much the gap between exchanged and right answers has grown.
        chance: How often answers that are exchanged at random gain as much, from 0 to 1.
        least: The smallest gain that these rows can show: chance exceeds it in 0.5 % of cases.
    """

    value: float
    chance: float
    least: float


@dataclass(frozen=True)
class Learned:
    """What was learned; losses are means over the rows in nats per token."""

    kind: Kind
    sentence: str
    rows: int
    gain: Gain
    right: tuple[float, float]
    exchanged: tuple[float, float]

    def as_dict(self) -> dict[str, Any]:
        """Return the entry of the report."""
        names = ("base", "tuned")
        return {
            "kind": self.kind,
            "sentence": self.sentence,
            "rows": self.rows,
            "gain": self.gain.value,
            "chance": self.gain.chance,
            "least_gain": self.gain.least,
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
    changes = [new - old for new, old in zip(after, before, strict=True)]
    gain = Gain(_mean(growth), *_permutation_test(changes))
    rows = sum(len(block.rows) for block in blocks)
    own = [np.concatenate([np.zeros(0), *map(np.diagonal, model)]) for model in (before, after)]
    fell = compare(own[0], own[1], direction="lower", worth_having=WORTH_HAVING)
    kind = _kind(gain, rows, fell)
    means = [_mean(losses) for losses in (*right, *exchanged)]
    sentence = _sentence(kind, rows, gain, means[:2], means[2:])
    return Learned(kind, sentence, rows, gain, (means[0], means[1]), (means[2], means[3]))


def _kind(gain: Gain, rows: int, fell: Difference) -> Kind:
    """Return what was learned, from the gain and from the change of the loss of right answers."""
    is_gain = gain.value >= WORTH_HAVING
    if rows < FEWEST_ROWS:
        return "too-few-rows"
    if is_gain and gain.chance < CHANCE:
        return "answers"
    if is_gain and gain.chance < DOUBTFUL:
        return "too-few-rows"
    if fell.kind != "better" or fell.value is None:
        return "nothing"
    return "style" if gain.least <= max(WORTH_HAVING, SHARE * -fell.value) else "too-few-rows"


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


def _permutation_test(changes: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Return how often answers that are exchanged at random gain as much as the right ones.

    The second value is the gain in nats per token that they exceed with the chance `CHANCE`.

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
    # A right answer is among those that are exchanged, so the gap is wider than to their mean.
    pairs = sum(len(matrix) for matrix in changes) - len(changes)
    least = float(exchanged.mean() - np.quantile(exchanged, CHANCE)) / max(1, pairs)
    return (as_low + 1) / (_PERMUTATIONS + 1), least


def _mean(losses: NDArray[np.float64]) -> float:
    return float(losses.mean()) if len(losses) else 0.0


def _sentence(kind: Kind, rows: int, gain: Gain, right: list[float], exchanged: list[float]) -> str:
    gained = (
        f"right answers gained {gain.value:.2f} nats per token more than exchanged ones, and by "
        f"chance they do in {_percent(gain.chance)} of cases"
    )
    if kind == "too-few-rows":
        why = f"{FEWEST_ROWS} are the least."
        if rows >= FEWEST_ROWS:
            why = f"{gained}; these rows can only show a gain of {gain.least:.2f} or more."
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
            f"given to other questions {other}. Nothing shows that the answers were learned: "
            f"{gained}."
        )
    return (
        f"Nothing that these rows show: the loss of right answers went {change}, that of the same "
        f"answers given to other questions {other}."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.01 else f"{100 * share:.0f} %"


def _parts(order: list[int]) -> Iterator[list[int]]:
    """Return neighbours in blocks of nearly equal size; one row alone is none."""
    count = max(1, len(order) // BLOCK)
    bounds = [round(part * len(order) / count) for part in range(count + 1)]
    return (order[start:end] for start, end in pairwise(bounds) if end - start > 1)


def _shuffle_key(case: Case) -> bytes:
    text = repr((case.number, case.question, case.expected))
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
