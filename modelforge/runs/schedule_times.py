"""When a moment has come: times as people say them, and a clock that somebody may set."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelforge.errors import ConfigError, Problem

# More than a clock is ever moved by and by; a jump is believed once it has stood this long.
JUMP_S = 5.0
BELIEVED_AFTER_S = 60.0
MOST_AHEAD_S = 366 * 86_400.0

_HOUR = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_AHEAD = re.compile(r"\+\s*(?=\d)(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)m(?:in)?)?\s*(?:(\d+)s)?")
_SAY = "Say 22:30, +2h, +1h30m, or a date such as 2027-01-31 22:30."


@dataclass(frozen=True)
class ClockReading:
    """Now: Unix time as far as it is believed, and for how long this process has watched."""

    now: float
    watched_s: float = 0.0


def monotonic_s() -> float:
    """Return seconds that no setting of the clock moves; where it can, sleep is counted too."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


class Clock:
    """Tells the time, and takes a jump for true only when it lasts.

    A clock that is set wrong and right again starts nothing early; one that was wrong and is set
    right is followed a minute later.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = monotonic_s
    ) -> None:
        self._wall, self._steady = wall, steady
        self._began = steady()
        self._offset = wall() - self._began
        self._doubted: tuple[float, float] | None = None
        self._turn = threading.Lock()

    def read(self) -> ClockReading:
        """Return the moment that it is."""
        with self._turn:
            steady = self._steady()
            offset = self._wall() - steady
            if abs(offset - self._offset) <= JUMP_S:
                self._offset, self._doubted = offset, None
            elif self._doubted is None or abs(offset - self._doubted[0]) > JUMP_S:
                self._doubted = offset, steady
            elif steady - self._doubted[1] >= BELIEVED_AFTER_S:
                self._offset, self._doubted = offset, None
            return ClockReading(steady + self._offset, steady - self._began)


def parse_time(said: str, now: float) -> float:
    """Return the Unix time that a person means by 22:30, +2h or a date; raises ConfigError."""
    text = said.strip()
    if found := _AHEAD.fullmatch(text):
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return validate_time(now + days * 86_400 + hours * 3600 + minutes * 60 + seconds, now)
    if found := _HOUR.fullmatch(text):
        return _next_time_of_day([int(part or 0) for part in found.groups()], now)
    try:
        return validate_time(datetime.fromisoformat(text).astimezone().timestamp(), now)
    except (ValueError, OverflowError, OSError) as error:
        what = f"{said[:40]!r} is no time."
        raise ConfigError(Problem("start_after", what, _SAY)) from error


def validate_time(moment: float, now: float) -> float:
    """Return a time to start after; raises ConfigError for what is past or too far ahead."""
    if moment < now - 60:
        what = f"{format_time(moment, now).capitalize()} is past."
        raise ConfigError(Problem("start_after", what, "Leave the time out to start at once."))
    if not moment <= now + MOST_AHEAD_S:
        what = "That is more than a year ahead."
        raise ConfigError(Problem("start_after", what, _SAY))
    return moment


def format_time(moment: float, now: float) -> str:
    """Return a time as near as a person needs it: 22:30, tomorrow 06:00, 24 Nov 22:30."""
    then, today = _local(moment), _local(now)
    hour = then.strftime("%H:%M")
    days = (then.date() - today.date()).days
    if days == 0:
        return hour
    if days == 1:
        return f"tomorrow {hour}"
    day = f"{then.day} {then.strftime('%b')}"
    return f"{day} {hour}" if then.year == today.year else f"{day} {then.year} {hour}"


def _next_time_of_day(parts: list[int], now: float) -> float:
    hour, minute, second = parts
    if hour > 23 or minute > 59 or second > 59:
        what = f"{hour:02}:{minute:02} is no time of day."
        raise ConfigError(Problem("start_after", what, _SAY))
    # Without a zone, so that a day with a change of the hour is counted as its clocks are.
    today = _local(now).replace(hour=hour, minute=minute, second=second, microsecond=0)
    wanted = today if today.timestamp() > now else today + timedelta(days=1)
    return wanted.timestamp()


def _local(moment: float) -> datetime:
    return datetime.fromtimestamp(moment).astimezone().replace(tzinfo=None)
