"""Byte units, and the text form of bytes and durations."""

from __future__ import annotations

KIB = 2**10
MIB = 2**20
GIB = 2**30


def human_bytes(size: float) -> str:
    """Return a number of bytes in the largest unit that fits: 1.4 GiB, 340 MiB, 12 KiB, 7 B."""
    for unit, scale in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size >= scale:
            amount = size / scale
            return f"{amount:,.1f} {unit}" if amount < 10 else f"{amount:,.0f} {unit}"
    return f"{size:,.0f} B"


def human_gib(gib: float) -> str:
    """Return an amount of memory or disk space in GiB: 7.9 GiB."""
    return f"{gib:,.1f} GiB"


def human_number(value: float) -> str:
    """Return up to four digits, with an exponent for very small or large numbers: 2e-4."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def human_duration(seconds: float) -> str:
    """Return a duration in one or two units: 45 s, 34 min, 2 h 10 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24:,} days {hours % 24} h" if hours < 2400 else f"{hours // 24:,} days"


def estimated_duration(seconds: float, longest: float | None = None) -> str:
    """Return an estimated duration, or the range that it lies in: about 2 min, about 2 to 6 min."""
    longest = seconds if longest is None else longest
    if longest < 50:
        return "under a minute"
    low, high = (max(1, round(each / 60)) for each in (seconds, longest))
    if low == high:
        return f"about {human_duration(60 * low)}"
    first = str(low) if high < 60 else human_duration(60 * low)
    return f"about {first} to {human_duration(60 * high)}"


def planned_duration(
    seconds: float, basis: str | None, longest: float | None = None, evaluation: float | None = None
) -> str:
    """Return the planned duration of a run: exact after a trial run or the same run before.

    `evaluation` is that of the evaluation at its end: 4 min, then about 6 min to evaluate it.
    """
    is_measured = basis in ("trial_run", "last_run")
    text = human_duration(seconds) if is_measured else estimated_duration(seconds, longest)
    return f"{text}, then {estimated_duration(evaluation)} to evaluate it" if evaluation else text


def human_time_left(seconds: float) -> str:
    """Return the time left of a run in progress: 3 min 20 s left."""
    return "nearly done" if seconds < 3 else f"{human_duration(seconds)} left"
