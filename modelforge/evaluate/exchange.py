"""Answers or style: the right answers against the same answers, exchanged among the questions.

A model that has only learned how answers look finds every answer of the data likelier, whatever
the question. One that has learned what is answered finds the right answer likelier, compared with
the answer to another question. The answers are exchanged by a permutation, so that a change that
depends on the answer alone adds up to zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from modelforge.diagnosis.comparison import FEWEST_ROWS, compare, sign_flip_test
from modelforge.evaluate.cases import Case

Kind = Literal["answers", "style", "nothing", "too-few-rows"]
# Answers of similar length are exchanged, within blocks of so many rows.
BLOCK = 8
# By how much the gap between right and exchanged answers must grow, in nats per token, and with
# which chance at most it grows so much in a model that has learned no answers.
WORTH_HAVING, CHANCE = 0.05, 0.01


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


def exchange_partners(cases: Sequence[Case]) -> list[int | None]:
    """Return for each case the index of the one whose answer it gets; None for those left out.

    Every answer is used once. Cases without an answer, and those that would get an answer equal
    to their own, are left out.
    """
    usable = [index for index, case in enumerate(cases) if case.answer]
    order = sorted(usable, key=lambda index: (len(cases[index].answer), _shuffle_key(cases[index])))
    partners: list[int | None] = [None] * len(cases)
    for block in _blocks(order):
        shift = _best_shift(block, cases)
        for place, index in enumerate(block):
            other = block[(place + shift) % len(block)]
            if cases[other].answer != cases[index].answer:
                partners[index] = other
    return partners


def decide_learning(
    right: tuple[Sequence[float], Sequence[float]],
    exchanged: tuple[Sequence[float], Sequence[float]],
) -> Learned:
    """Return what was learned.

    Args:
        right: losses of the right answers, of base and tuned model; nats per token.
        exchanged: losses of the exchanged answers, in the same order.
    """
    base, tuned = np.asarray(right[0], np.float64), np.asarray(right[1], np.float64)
    other_base, other_tuned = (np.asarray(losses, np.float64) for losses in exchanged)
    growth = (other_tuned - tuned) - (other_base - base)
    kind = _kind(growth, base, tuned)
    means = [float(values.mean()) if len(values) else 0.0 for values in (base, tuned)]
    others = [float(values.mean()) if len(values) else 0.0 for values in (other_base, other_tuned)]
    sentence = _sentence(kind, growth, means, others)
    return Learned(kind, sentence, len(growth), (means[0], means[1]), (others[0], others[1]))


def _kind(growth: Any, base: Any, tuned: Any) -> Kind:
    if len(growth) < FEWEST_ROWS:
        return "too-few-rows"
    if float(growth.mean()) >= WORTH_HAVING:
        # It may be chance: then more rows would tell.
        return "answers" if sign_flip_test(growth) < CHANCE else "too-few-rows"
    fell = compare(base, tuned, direction="lower", worth_having=WORTH_HAVING)
    return "style" if fell.kind == "better" else "nothing"


def _sentence(kind: Kind, growth: Any, right: list[float], exchanged: list[float]) -> str:
    rows = len(growth)
    if kind == "too-few-rows":
        why = f"{FEWEST_ROWS} are the least."
        if rows >= FEWEST_ROWS:
            why = (
                f"right answers gained {growth.mean():.2f} nats per token more than exchanged "
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


def _blocks(order: list[int]) -> list[list[int]]:
    """Return blocks of neighbours; the last one takes what is left."""
    count = max(1, len(order) // BLOCK)
    bounds = [round(part * len(order) / count) for part in range(count + 1)]
    blocks = [order[start:end] for start, end in pairwise(bounds)]
    return [block for block in blocks if len(block) > 1]


def _best_shift(block: list[int], cases: Sequence[Case]) -> int:
    """Return the rotation of a block that gives the fewest cases an answer equal to their own."""

    def equal(shift: int) -> int:
        return sum(
            cases[index].answer == cases[block[(place + shift) % len(block)]].answer
            for place, index in enumerate(block)
        )

    return min(range(1, len(block)), key=lambda shift: (equal(shift), shift))


def _shuffle_key(case: Case) -> bytes:
    text = repr((case.number, case.question, case.expected))
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
