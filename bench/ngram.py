"""A byte n-gram with modified Kneser-Ney smoothing (Chen and Goodman 1999), interpolated.

The probability of a byte after the n - 1 bytes before it is the discounted count of the n-gram, and
the rest of the mass is that of the n-gram one byte shorter, down to the uniform distribution. Below
the highest order the count of an n-gram is the number of different bytes it follows. A document
begins after n - 1 start symbols; its end is not predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BYTES = 256
# The start of a document is a symbol of its own; n-grams are numbers to this base.
START, BASE = BYTES, BYTES + 1
# Discounts of n-grams with the count 1, 2, and 3 or more.
Discounts = tuple[float, float, float]
Codes = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Order:
    """The n-grams of one length.

    Attributes:
        codes: the n-grams, sorted.
        counts: how often each occurs, or below the highest order how many bytes it follows.
        contexts: the n-grams without their last byte, sorted.
        totals: sum of the counts of each context.
        rest: mass that the discounts leave to the shorter n-grams, as a share of the total.
        discounts: see `Discounts`.
    """

    codes: Codes
    counts: Codes
    contexts: Codes
    totals: Codes
    rest: Floats
    discounts: Discounts


class KneserNey:
    """A model of the bytes of documents.

    Args:
        documents: what is counted.
        n: length of the longest n-gram, from 1 to 7.
        discounts: for each length from 1; estimated from the counts if not given.
    """

    def __init__(
        self, documents: Sequence[bytes], n: int = 5, discounts: Sequence[Discounts] | None = None
    ) -> None:
        self.n = n
        codes, counts = np.unique(_ngrams(documents, n), return_counts=True)
        orders = []
        for length in range(n, 0, -1):
            given = discounts[length - 1] if discounts else estimated_discounts(counts)
            orders.append(_order(codes, counts, given))
            codes, counts = np.unique(codes % BASE ** (length - 1), return_counts=True)
        self.orders = orders[::-1]

    def probabilities(self, ngrams: Codes) -> Floats:
        """Return the probability of the last byte of each n-gram, given the bytes before it."""
        found = np.full(len(ngrams), 1 / BYTES)
        for length, order in enumerate(self.orders, start=1):
            codes = ngrams % BASE**length
            counts = _looked_up(order.codes, order.counts, codes)
            totals = _looked_up(order.contexts, order.totals, codes // BASE)
            rest = _looked_up(order.contexts, order.rest, codes // BASE)
            discounted = counts - _discount(counts, order.discounts)
            with np.errstate(divide="ignore", invalid="ignore"):
                known = discounted / totals + rest * found
            found = np.where(totals > 0, known, found)
        return found

    def bits_per_byte(self, documents: Sequence[bytes]) -> float:
        """Return the mean of -log2 of the probabilities of all bytes of the documents."""
        return float(-np.log2(self.probabilities(_ngrams(documents, self.n))).mean())


def estimated_discounts(counts: Codes) -> Discounts:
    """Return the discounts of Chen and Goodman: c - (c + 1) Y n(c + 1) / n(c).

    n(c) is the number of n-grams with the count c, and Y = n(1) / (n(1) + 2 n(2)). Where there are
    too few n-grams for an estimate between 0 and c, the discount is Y, or 0.5 without any n(1).
    """
    have = [int((counts == count).sum()) for count in range(1, 5)]
    y = have[0] / (have[0] + 2 * have[1]) if have[0] else 0.5

    def discount(count: int) -> float:
        if not have[count - 1]:
            return y
        found = count - (count + 1) * y * have[count] / have[count - 1]
        return found if 0 < found < count else y

    return (discount(1), discount(2), discount(3))


def _ngrams(documents: Sequence[bytes], n: int) -> Codes:
    """Return the n-gram that ends at each byte of the documents, as a number."""
    parts = []
    for document in documents:
        padded = np.full(len(document) + n - 1, START, dtype=np.int64)
        padded[n - 1 :] = np.frombuffer(document, dtype=np.uint8)
        code = np.zeros(len(document), dtype=np.int64)
        for place in range(n):
            code = code * BASE + padded[place : place + len(document)]
        parts.append(code)
    return np.concatenate(parts)


def _order(codes: Codes, counts: Codes, discounts: Discounts) -> Order:
    contexts, starts = np.unique(codes // BASE, return_index=True)
    totals = np.add.reduceat(counts, starts)
    taken = np.add.reduceat(_discount(counts, discounts), starts)
    return Order(codes, counts, contexts, totals, taken / totals, discounts)


def _discount(counts: NDArray[np.number], discounts: Discounts) -> Floats:
    """Return the discount of each count; 0 for the count 0."""
    return np.asarray((0.0, *discounts))[np.minimum(counts, 3).astype(np.int64)]


def _looked_up(keys: Codes, values: NDArray[np.number], wanted: Codes) -> Floats:
    """Return the value of each wanted key, or 0."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0).astype(np.float64)
