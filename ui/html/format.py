"""Format numbers, sizes, durations, dates and states for people."""

from __future__ import annotations

import time

from modelforge import units
from modelforge.data.sources.library import sample_title
from modelforge.runs.notes import short_model_name
from modelforge.units import human_bytes, human_duration, human_gib, human_number

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
# Verdict → its label and tone.
VERDICTS = {
    "better": ("improved", "good"),
    "overfit": ("overfitted", "warn"),
    "no-effect": ("no effect", "warn"),
    "broken": ("broken", "bad"),
    "unclear": ("not enough evidence", ""),
}
METHODS = {"sft": "SFT", "qlora": "QLoRA", "dpo": "DPO", "rlhf": "RLHF"}
UNKNOWN = "–"


def initial_phase(state: str) -> str:
    """Return the phase of a run whose worker has not reported one yet."""
    return "Waiting in the queue" if state == "queued" else "Starting the worker"


def number(value: float | None, digits: int = 0) -> str:
    """Return a number with thousands separators: 2,310."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def progress(done: float, total: float | None, digits: int = 0) -> str:
    """Return progress: 71 of 154, 1.4 of 3, 0.85 of 0.85; the first number without a total.

    Both are rounded to the same number of digits, and the first is never the larger one: a total
    that was rounded down or estimated may be below it.
    """
    digits = 2 if digits and total and total < 1 else digits
    if not total:
        return number(done, digits)
    whole = number(total, digits)
    return f"{number(min(done, total), digits)} of {whole.removesuffix('.' + '0' * digits)}"


def compact(value: float | None) -> str:
    """Return up to four digits, with an exponent for very small or large numbers: 2e-4."""
    return UNKNOWN if value is None else human_number(value)


def percent(value: float | None, digits: int = 0) -> str:
    """Return a percentage from 0 to 100: 97 %."""
    return UNKNOWN if value is None else f"{value:.{digits}f} %"


def gib(value: float | None) -> str:
    """Return an amount of memory or disk space: 7.9 GiB."""
    return UNKNOWN if value is None else human_gib(value)


def of_gib(part: float | None, total: float | None) -> str:
    """Return a part of an amount: 7.9 of 12.0 GiB."""
    if part is None or total is None:
        return gib(total)
    return f"{part:,.1f} of {total:,.1f} GiB"


def memory_part(value: float) -> str:
    """Return a part of an amount in GiB without the unit, small ones in MiB: 2.6, 20 MiB."""
    return f"{value:.1f}" if value >= 0.1 or not value else f"{max(1, round(value * 1024))} MiB"


def method(strategy: str) -> str:
    """Return the short name of a strategy: SFT, QLoRA."""
    return METHODS.get(strategy, strategy)


def size(count: float | None) -> str:
    """Return a number of bytes in a suitable unit: 1.4 GiB, 340 MiB, 12 KiB."""
    return UNKNOWN if count is None else human_bytes(count)


def duration(seconds: float | None) -> str:
    """Return a duration in one or two units: 45 s, 34 min, 2 h 10 min."""
    return UNKNOWN if seconds is None else human_duration(seconds)


def short_duration(seconds: float | None) -> str:
    """Return a duration with decimals below a minute: 0.42 s, 12.3 s, 2 min 10 s."""
    if seconds is None or seconds >= 60:
        return duration(seconds)
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"


def estimated_duration(seconds: float | None, longest: float | None = None) -> str:
    """Return an estimated duration: about 34 min, about 2 to 6 min."""
    return "not known yet" if seconds is None else units.estimated_duration(seconds, longest)


def planned_duration(
    seconds: float | None,
    basis: str | None,
    longest: float | None = None,
    evaluation: float | None = None,
) -> str:
    """Return the planned duration of a run: exact where it is measured, otherwise about."""
    return (
        "not known yet"
        if seconds is None
        else units.planned_duration(seconds, basis, longest, evaluation)
    )


def time_left(seconds: float) -> str:
    """Return the time left of a run in progress: 3 min 20 s left."""
    return units.human_time_left(seconds)


def time_of_day(timestamp: float) -> str:
    """Return a time of day: 14:50:12."""
    return time.strftime("%H:%M:%S", time.localtime(timestamp))


def date(timestamp: float, now: float | None = None) -> str:
    """Return a date relative to now: today 14:32, 21 Nov 14:32, 21 Nov 2025."""
    then, today = time.localtime(timestamp), time.localtime(now)
    hour = time.strftime("%H:%M", then)
    if then[:3] == today[:3]:
        return f"today {hour}"
    if then[:3] == time.localtime((now or time.time()) - 86_400)[:3]:
        return f"yesterday {hour}"
    day = f"{then.tm_mday} {time.strftime('%b', then)}"
    return f"{day} {hour}" if then.tm_year == today.tm_year else f"{day} {then.tm_year}"


def plural(count: int, singular: str, plural: str | None = None) -> str:
    """Return a count with its noun: 1 row, 512 rows."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def cores(count: int | None) -> str:
    """Return a number of cores in words: 1 core, 8 cores, ? cores."""
    return plural(count, "core") if count else "? cores"


def file_name(path: object) -> str:
    """Return the last part of a path or an id."""
    return str(path).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def dataset(name: str) -> str:
    """Return the title of a sample, or the last part of the name of other data."""
    return sample_title(name) or file_name(name)


def model_name(name: object) -> str:
    """Return the name of a model without its owner or folder; of a result, that of its run."""
    last = short_model_name(str(name))
    return "Starter" if last == "starter" else last
