"""The byte n-gram with Kneser-Ney smoothing, by counts made by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from bench.ngram import BASE, START, Discounts, KneserNey, estimated_discounts

HALF: Discounts = (0.5, 0.5, 0.5)


def code(text: bytes, n: int) -> int:
    """Return the n-gram that ends a text, with start symbols before it."""
    found = 0
    for symbol in [START] * (n - 1) + list(text):
        found = (found * BASE + symbol) % BASE**n
    return found


def probability(model: KneserNey, text: bytes) -> float:
    return float(model.probabilities(np.array([code(text, model.n)]))[0])


def test_bigrams_of_a_text_by_hand():
    # "abac": bigrams ^a 1, ab 1, ba 1, ac 1. Bytes by what they follow: a 2 (^, b), b 1, c 1.
    model = KneserNey([b"abac"], n=2, discounts=[HALF, HALF])
    uniform = Fraction(1, 256)
    rest = Fraction(3, 2) / 4
    single = {
        b"a": Fraction(3, 2) / 4 + rest * uniform,
        b"b": Fraction(1, 2) / 4 + rest * uniform,
        b"z": rest * uniform,
    }
    # After "a" come b and c once each, so half of the mass is left to single bytes.
    for last, own in ((b"b", Fraction(1, 4)), (b"a", 0), (b"z", 0)):
        expected = own + Fraction(1, 2) * single[last]
        assert probability(model, b"a" + last) == pytest.approx(float(expected), rel=1e-12)
    # Nothing was seen after "c": single bytes alone.
    assert probability(model, b"cb") == pytest.approx(float(single[b"b"]), rel=1e-12)
    # The first byte of a document has the start as its context.
    assert probability(model, b"a") == pytest.approx(0.5 + 0.5 * float(single[b"a"]), rel=1e-12)


def test_counts_of_two_and_three_have_their_own_discounts():
    model = KneserNey([b"xa" * 2 + b"xb" + b"xc" * 3], n=2, discounts=[HALF, (0.1, 0.4, 0.7)])
    rest = 0.4 + 0.1 + 0.7
    # Single bytes: x follows ^, a, b, c; a, b and c follow x.
    single = 0.5 / 7 + 4 * 0.5 / 7 / 256
    for last, own in ((b"a", 2 - 0.4), (b"b", 1 - 0.1), (b"c", 3 - 0.7)):
        expected = own / 6 + rest / 6 * single
        assert probability(model, b"x" + last) == pytest.approx(expected, rel=1e-12)


def test_discounts_are_estimated_from_how_many_have_each_count():
    # n(1) = 8, n(2) = 4, n(3) = 2, n(4) = 1; Y = 8 / 16.
    counts = np.array([1] * 8 + [2] * 4 + [3] * 2 + [4])
    expected = (1 - 2 * 0.5 * 4 / 8, 2 - 3 * 0.5 * 2 / 4, 3 - 4 * 0.5 * 1 / 2)
    assert estimated_discounts(counts) == pytest.approx(expected)
    # Without n(3) and n(4), 2 - 0 is no discount: Y = 1 / 9 replaces it.
    assert estimated_discounts(np.array([1, 2, 2, 2, 2])) == pytest.approx((1 / 9,) * 3)
    assert estimated_discounts(np.array([7, 9])) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_probabilities_of_all_bytes_sum_to_one(n):
    rng = np.random.default_rng(n)
    documents = [bytes(rng.choice(list(b"abcde "), 400)) for _ in range(3)]
    model = KneserNey(documents, n=n)
    for context in (b"", b"a", b"abcd", b"zzzz", documents[1][:9]):
        shares = [probability(model, context + bytes([last])) for last in range(256)]
        assert sum(shares) == pytest.approx(1, abs=1e-12)
        assert min(shares) > 0


def test_a_longer_context_helps_where_the_text_needs_it():
    text = b"the cat sat on the mat; the rat sat on the cat. " * 30
    bits = [KneserNey([text], n=n).bits_per_byte([text[:400]]) for n in (1, 2, 3, 5)]
    assert bits == sorted(bits, reverse=True)
    assert bits[-1] < 0.6


def test_documents_do_not_continue_one_another():
    model = KneserNey([b"ab", b"ab"], n=2, discounts=[HALF, HALF])
    # "b" has no byte after it, so "a" after "b" is as likely as "a" after a byte never seen.
    assert probability(model, b"ba") == probability(model, b"qa")
