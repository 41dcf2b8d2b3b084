"""Numbers, times and states as people say them."""

from __future__ import annotations

import time

from modelforge.units import human_bytes, human_gib

STATES = {
    "queued": ("waiting", ""),
    "starting": ("starting", "good"),
    "running": ("running", "good"),
    "stopping": ("stopping", "warn"),
    "finished": ("finished", "good"),
    "stopped": ("stopped", "warn"),
    "failed": ("failed", "bad"),
    "lost": ("lost", "bad"),
}
UNKNOWN = "–"


def before(state: str) -> str:
    """Return what a run does of which its worker has said nothing yet."""
    return "Waits for its turn in the queue" if state == "queued" else "Starting the worker"


def number(value: float | None, digits: int = 0) -> str:
    """Return a number with thousands parted: 2,310."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def gib(value: float | None) -> str:
    """Return an amount of memory or disk: 7.9 GiB."""
    return UNKNOWN if value is None else human_gib(value)


def size(held: float | None) -> str:
    """Return bytes in the unit that suits them: 1.4 GiB, 340 MiB, 12 KiB."""
    return UNKNOWN if held is None else human_bytes(held)


def small(value: float | None) -> str:
    """Return a learning rate or another small number as people type it: 2e-4."""
    if value is None:
        return UNKNOWN
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def percent(share: float | None) -> str:
    """Return a number from 0 to 100 as a share: 97 %."""
    return UNKNOWN if share is None else f"{share:.0f} %"


def duration(seconds: float | None) -> str:
    """Return a length of time in one or two units: 45 s, 34 min, 2 h 10 min."""
    if seconds is None:
        return UNKNOWN
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


def pace(seconds: float | None) -> str:
    """Return a short length of time to the tenth: 0.4 s, 12.3 s, 2 min 10 s."""
    if seconds is None or seconds >= 60:
        return duration(seconds)
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"


def roughly(seconds: float | None) -> str:
    """Return a length of time that is only an estimate: about 34 min."""
    if seconds is None:
        return "not known yet"
    if seconds < 50:
        return "under a minute"
    if seconds < 600:
        return f"about {max(1, round(seconds / 60))} min"
    return f"about {duration(seconds)}"


def clock(moment: float) -> str:
    """Return a time of day: 14:50:12."""
    return time.strftime("%H:%M:%S", time.localtime(moment))


def when(moment: float, now: float | None = None) -> str:
    """Return a moment as near as a person needs it: today 14:32, 21 Nov 14:32, 21 Nov 2025."""
    then, today = time.localtime(moment), time.localtime(now)
    hour = time.strftime("%H:%M", then)
    if then[:3] == today[:3]:
        return f"today {hour}"
    if then[:3] == time.localtime((now or time.time()) - 86_400)[:3]:
        return f"yesterday {hour}"
    day = f"{then.tm_mday} {time.strftime('%b', then)}"
    return f"{day} {hour}" if then.tm_year == today.tm_year else f"{day} {then.tm_year}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return a counted thing: 1 row, 512 rows."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def model(name: object) -> str:
    """Return a model's name without its owner or folder; the starter has a name of its own."""
    last = str(name).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    return "Starter" if last == "starter" else last
