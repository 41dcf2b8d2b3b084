"""Start times: parse and format them, and read a clock that may be changed while waiting."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelforge.errors import ConfigError, Problem

# A larger change of the offset is a jump, which counts only after it has lasted this long.
JUMP_S = 5.0
BELIEVED_AFTER_S = 60.0
MOST_AHEAD_S = 366 * 86_400.0

_HOUR = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_AHEAD = re.compile(r"\+\s*(?=\d)(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)m(?:in)?)?\s*(?:(\d+)s)?")
_FORMATS = "Use 22:30, +2h, +1h30m, or a date such as 2027-01-31 22:30."


@dataclass(frozen=True)
class ClockReading:
    """The accepted Unix time, and the seconds since this process began to watch the clock."""

    now: float
    watched_s: float = 0.0


def monotonic_s() -> float:
    """Return seconds that do not depend on the wall clock, where possible including sleep."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


class Clock:
    """A wall clock that accepts a jump only once it has lasted for a minute.

    A clock that is wrong for a moment therefore starts no run early.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = monotonic_s
    ) -> None:
        self._wall, self._steady = wall, steady
        self._began = steady()
        self._offset = wall() - self._began
        self._jump: tuple[float, float] | None = None  # new offset, and when it was first seen
        self._lock = threading.Lock()

    def read(self) -> ClockReading:
        """Return the current time."""
        with self._lock:
            steady = self._steady()
            offset = self._wall() - steady
            if abs(offset - self._offset) <= JUMP_S:
                self._offset, self._jump = offset, None
            elif self._jump is None or abs(offset - self._jump[0]) > JUMP_S:
                self._jump = offset, steady
            elif steady - self._jump[1] >= BELIEVED_AFTER_S:
                self._offset, self._jump = offset, None
            return ClockReading(steady + self._offset, steady - self._began)


def parse_time(text: str, now: float) -> float:
    """Return the Unix time of a text such as 22:30, +2h or a date; raises ConfigError."""
    text = text.strip()
    if match := _AHEAD.fullmatch(text):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return validate_time(now + days * 86_400 + hours * 3600 + minutes * 60 + seconds, now)
    if match := _HOUR.fullmatch(text):
        return _next_time_of_day([int(part or 0) for part in match.groups()], now)
    try:
        return validate_time(datetime.fromisoformat(text).astimezone().timestamp(), now)
    except (ValueError, OverflowError, OSError) as error:
        what = f"{text[:40]!r} is not a time."
        raise ConfigError(Problem("start_after", what, _FORMATS)) from error


def validate_time(moment: float, now: float) -> float:
    """Return the time; raises ConfigError when it is past or more than a year ahead."""
    if moment < now - 60:
        # Beyond a year the date may not exist.
        is_recent = moment > now - MOST_AHEAD_S
        name = format_time(moment, now).capitalize() if is_recent else "The time"
        what = f"{name} is past."
        raise ConfigError(Problem("start_after", what, "Omit the time to start at once."))
    if not moment <= now + MOST_AHEAD_S:
        what = "The time is more than a year ahead."
        raise ConfigError(Problem("start_after", what, _FORMATS))
    return moment


def format_time(moment: float, now: float) -> str:
    """Return a time as short as possible: 22:30, tomorrow 06:00, 24 Nov 22:30."""
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
        what = f"{hour:02}:{minute:02} is not a time of day."
        raise ConfigError(Problem("start_after", what, _FORMATS))
    # Without a time zone: the result is a local time, also when daylight saving begins or ends.
    today = _local(now).replace(hour=hour, minute=minute, second=second, microsecond=0)
    next_time = today if today.timestamp() > now else today + timedelta(days=1)
    return next_time.timestamp()


def _local(moment: float) -> datetime:
    return datetime.fromtimestamp(moment).astimezone().replace(tzinfo=None)
