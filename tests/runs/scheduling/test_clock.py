"""Times as people say them, and a clock that is set while somebody waits."""

from __future__ import annotations

from datetime import datetime

import pytest

from modelforge.errors import ConfigError
from modelforge.runs.scheduling.schedule_times import (
    BELIEVED_AFTER_S,
    Clock,
    format_time,
    parse_time,
)

NOW = datetime(2026, 11, 21, 21, 0).astimezone().timestamp()
HOUR = 3600.0


class Hands:
    """Two clocks that a test moves: what the wall shows, and what has really passed."""

    def __init__(self) -> None:
        self.wall, self.steady = NOW, 500.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.steady)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("22:30", 1.5),
        ("20:00", 23),
        ("21:00", 24),
        ("6:15", 9.25),
        ("+2h", 2),
        ("+1h30m", 1.5),
        ("+90min", 1.5),
        ("+1d 2h", 26),
        ("2026-11-21 23:00", 2),
        ("2026-11-22T06:00:00", 9),
    ],
)
def test_a_time_is_read_as_people_say_it(text, hours):
    assert parse_time(text, NOW) == pytest.approx(NOW + hours * HOUR)


def test_a_date_with_a_zone_is_taken_at_its_word():
    assert parse_time("2026-12-01T00:00:00Z", NOW) == 1796083200.0


@pytest.mark.parametrize(
    "text", ["", "soon", "25:00", "12:60", "+", "+2", "2h", "2026-13-01", "2020-01-01", "+9999d"]
)
def test_what_is_no_time_is_refused_in_words(text):
    with pytest.raises(ConfigError) as refused:
        parse_time(text, NOW)
    assert refused.value.problems[0].where == "start_after"
    assert refused.value.problems[0].remedy


def test_times_are_rounded_as_needed():
    assert format_time(NOW + HOUR, NOW) == "22:00"
    assert format_time(NOW + 9 * HOUR, NOW) == "tomorrow 06:00"
    assert format_time(NOW + 72 * HOUR, NOW) == "24 Nov 21:00"
    assert format_time(NOW + 60 * 24 * HOUR, NOW) == "20 Jan 2027 21:00"


def test_a_clock_that_is_set_wrong_and_right_again_is_not_believed():
    hands = Hands()
    clock = hands.clock()
    hands.wall += 10 * HOUR
    for _ in range(5):
        hands.pass_by(BELIEVED_AFTER_S / 6)
        assert clock.read().now < NOW + BELIEVED_AFTER_S
    hands.wall -= 10 * HOUR
    hands.pass_by(10)
    assert clock.read().now == pytest.approx(hands.wall)


@pytest.mark.parametrize("jump", [10 * HOUR, -10 * HOUR])
def test_a_clock_that_is_set_for_good_is_followed_a_minute_later(jump):
    hands = Hands()
    clock = hands.clock()
    hands.wall += jump
    assert clock.read().now == pytest.approx(NOW)
    hands.pass_by(BELIEVED_AFTER_S + 1)
    assert clock.read().now == pytest.approx(hands.wall)


def test_a_clock_that_drifts_is_followed_at_once():
    hands = Hands()
    clock = hands.clock()
    for _ in range(20):
        hands.pass_by(60)
        hands.wall += 2
        assert clock.read().now == pytest.approx(hands.wall)
