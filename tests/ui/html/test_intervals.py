"""Scales of dot plots hold every interval between round ticks."""

import random

import pytest

from ui.html.intervals import MOST_TICKS, Dot, scale_of


def dot(value, low=None, high=None):
    return Dot("x", "base", value, None if low is None else (low, high))


@pytest.mark.parametrize(
    ("dots", "least", "ticks"),
    [
        ([dot(5.53, 5.02, 6.1), dot(2.29, 2.15, 2.45)], 1.0, (1, 2, 3, 4, 5, 6, 7)),
        ([dot(0.0, 0.0, 0.04), dot(0.24, 0.16, 0.33)], 0.0, (0, 0.1, 0.2, 0.3, 0.4)),
        ([dot(0.52, 0.48, 0.56)], 0.0, (0.48, 0.5, 0.52, 0.54, 0.56)),
        ([dot(3.0)], None, (3.0, 3.5)),
        ([dot(0.0)], 0.0, (0.0, 0.2)),
    ],
)
def test_ticks_are_round(dots, least, ticks):
    scale = scale_of(dots, least=least)
    assert scale.ticks == pytest.approx(ticks)


def test_every_interval_lies_within_its_scale():
    draw = random.Random(3)
    for _ in range(2000):
        size = 10 ** draw.uniform(-6, 6)
        ends = sorted(draw.uniform(-size, size) for _ in range(3))
        scale = scale_of([dot(ends[1], ends[0], ends[2])])
        assert scale.low <= ends[0]
        assert scale.high >= ends[2]
        assert 2 <= len(scale.ticks) <= MOST_TICKS
        places = [float(scale.place(end).rstrip("%")) for end in ends]
        assert places == sorted(places)
        assert 2 <= places[0] <= places[2] <= 98
