"""Read the dated beginnings of the lines of a WhatsApp export, in the forms of many languages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from typing import NamedTuple

SECONDS_OF_DAY = 86_400
# The order of the three numbers of a date.
DateOrder = tuple[int, int, int]  # the places of year, month and day
DAY_FIRST: DateOrder = (2, 1, 0)
MONTH_FIRST: DateOrder = (2, 0, 1)
YEAR_FIRST: DateOrder = (0, 1, 2)

# Marks of direction, which WhatsApp writes around names and before its own lines.
DIRECTION_MARKS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
_NO_MARKS = dict.fromkeys(map(ord, DIRECTION_MARKS))
_SPACES = dict.fromkeys(map(ord, "\u00a0\u2009\u202f\u2007"), " ")
# Morning and afternoon in the languages of WhatsApp.
_HALF = (
    r"[AaPp]\.?\s?[Mm]\.?|[上下]午|午[前後]|오[전후]|凌晨|清晨|早上|中午|晚上|[πμ]\.?\s?μ\.?|[صم]"
    r"|SA|CH|Ö[ÖS]|d[eu]\.|[vn]m\.?"
)
_AFTERNOON = re.compile(r"p|下|後|午後|오후|晚上|中午|μ\.?\s?μ|م|CH|ÖS|du|nm", re.IGNORECASE)
_DATE = r"(\d{1,4})[./\-年년]\s?(\d{1,2})[./\-月월]\s?(\d{1,4})[.日일]?(?:\s?г\.)?"
_TIME = rf"(?:({_HALF})\s?)?(\d{{1,2}})[:.](\d{{2}})(?:[:.](\d{{2}}))?(?:\s?({_HALF}))?"
_BETWEEN = r"(?:,|\s(?:klo|kl\.|à|a las|às|alle|um|at|о|в|ve))?\s{1,2}"
_IOS = re.compile(rf"\[{_DATE}{_BETWEEN}{_TIME}\]\s?(.*)", re.DOTALL)
_ANDROID = re.compile(rf"{_DATE}{_BETWEEN}{_TIME}(?:\s[-–—]\s|,\s)(.*)", re.DOTALL)
# Vietnamese writes the time before the date.
_TIME_FIRST = re.compile(rf"\[?{_TIME},?\s{_DATE}(?:\]\s?|\s[-–—]\s)(.*)", re.DOTALL)
_PERSON = re.compile(r"([^:\n]{1,100}?)\s?:(?:\s|\Z)(.*)", re.DOTALL)
# A line of the messenger that names a group in quotation marks, before a colon in the group's name.
_QUOTES = re.compile('[“”"«»„]')


class Stamp(NamedTuple):
    """The beginning of a message: the numbers of its date, its second of the day, and the rest.

    `person` is "" for a line of the messenger itself.
    """

    numbers: tuple[int, int, int]
    seconds: int
    has_english_half: bool
    person: str
    text: str


def find_stamp(line: str) -> Stamp | None:
    """Return the dated beginning of a line; None for a line that continues a message."""
    plain = line.lstrip(DIRECTION_MARKS)
    if not plain[:1].isdigit() and plain[:1] != "[":
        return None
    if not plain.isascii():
        plain = plain.translate(_SPACES)
    found = (_IOS if plain[0] == "[" else _ANDROID).match(plain)
    if found is not None:
        one, two, three, before, hour, minute, second, after, rest = found.groups()
    else:
        found = _TIME_FIRST.match(plain)
        if found is None:
            return None
        before, hour, minute, second, after, one, two, three, rest = found.groups()
    half = before or after or ""
    seconds = _second_of_day(int(hour), int(minute), int(second or 0), half)
    person, text = _split_person(rest)
    numbers = (int(one), int(two), int(three))
    return Stamp(numbers, seconds, half[:1] in tuple("AaPp"), person, text)


def _split_person(rest: str) -> tuple[str, str]:
    found = _PERSON.match(rest)
    if found is None or _QUOTES.search(found[1]):
        return "", rest
    person = found[1].translate(_NO_MARKS).strip()
    return person.removeprefix("~").strip(), found[2]


def _second_of_day(hour: int, minute: int, second: int, half: str) -> int:
    if half:
        hour = hour % 12 + (12 if _AFTERNOON.search(half) else 0)
    return hour * 3600 + minute * 60 + second


def day_number(numbers: tuple[int, int, int], order: DateOrder) -> int | None:
    """Return the number of a day, from 1; None if the numbers are no date in this order.

    Only differences of days are used, so that other calendars are read as well.
    """
    year, month, day = (numbers[place] for place in order)
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    year = year + 2000 if year < 100 else year
    # Months of other calendars may have more days.
    most = min(day, 28)
    return date(max(1, min(year, 9999)), month, most).toordinal() + day - most


def date_order(stamps: Sequence[Stamp]) -> DateOrder | None:
    """Return the order in which the dates of an export are written; None if none fits.

    The dates of a file rise, so of the orders that fit all dates the one with the fewest steps
    backwards and the shortest whole time is taken; then the usual order of the language.
    """
    if any(stamp.numbers[0] > 99 for stamp in stamps):
        orders = [YEAR_FIRST]
    elif any(stamp.has_english_half for stamp in stamps):
        orders = [MONTH_FIRST, DAY_FIRST, YEAR_FIRST]
    else:
        orders = [DAY_FIRST, MONTH_FIRST, YEAR_FIRST]
    fitting: list[tuple[int, int, DateOrder]] = []
    for order in orders:
        days = [day_number(stamp.numbers, order) for stamp in stamps]
        known = [day for day in days if day is not None]
        if len(known) == len(days):
            back = sum(later < earlier for earlier, later in pairwise(known))
            fitting.append((back, max(known, default=0) - min(known, default=0), order))
    return min(fitting, key=lambda each: each[:2])[2] if fitting else None


def first_misfit(stamps: Sequence[Stamp]) -> int:
    """Return the index of the first date that no order fits together with those before it."""
    orders = {DAY_FIRST, MONTH_FIRST, YEAR_FIRST}
    for index, stamp in enumerate(stamps):
        orders = {order for order in orders if day_number(stamp.numbers, order) is not None}
        if not orders:
            return index
    return 0
