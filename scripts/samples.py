"""Write the sample `units`: unit conversions as questions with a number and unit as answer."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import NamedTuple

TARGET = Path(__file__).resolve().parents[1] / "assets" / "samples" / "units.csv"
SEED = 11
# The prompt of the demo, so it must not be in the data.
HELD_OUT = ("kilometres", "metres", 7)


class Conversion(NamedTuple):
    """A conversion from a unit (singular, plural) to another (plural, symbol), for amounts."""

    one: str
    many: str
    to: str
    sign: str
    factor: str
    amounts: Sequence[float]
    offset: str = "0"


EASY = [1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 20]
ROUND = [1, 5, 10, 25, 100]
CONVERSIONS = [
    Conversion("kilometre", "kilometres", "metres", "m", "1000", [*EASY, 1.5, 2.5, 15, 42]),
    Conversion("metre", "metres", "centimetres", "cm", "100", [*EASY, 1.7, 0.5]),
    Conversion("centimetre", "centimetres", "millimetres", "mm", "10", [1, 2, 3, 5, 9, 12, 30]),
    Conversion(
        "metre", "metres", "kilometres", "km", "0.001", [500, 1500, 2000, 4000, 8000, 10000]
    ),
    Conversion("mile", "miles", "kilometres", "km", "1.609344", [1, 2, 3, 5, 10, 26.2, 100]),
    Conversion("kilometre", "kilometres", "miles", "mi", "0.62137119", [1, 5, 10, 21.1, 42.2, 100]),
    Conversion("foot", "feet", "metres", "m", "0.3048", [1, 6, 10, 50, 1000]),
    Conversion("metre", "metres", "feet", "ft", "3.2808399", [1, 2, 10, 100]),
    Conversion("inch", "inches", "centimetres", "cm", "2.54", [1, 4, 10, 12, 27, 55]),
    Conversion("centimetre", "centimetres", "inches", "in", "0.39370079", [10, 30, 100, 180]),
    Conversion("yard", "yards", "metres", "m", "0.9144", [1, 10, 100]),
    Conversion("nautical mile", "nautical miles", "kilometres", "km", "1.852", [1, 10, 60]),
    Conversion("kilogram", "kilograms", "grams", "g", "1000", [*EASY, 0.5, 2.2]),
    Conversion("gram", "grams", "kilograms", "kg", "0.001", [250, 500, 750, 1200, 3000, 5000]),
    Conversion("tonne", "tonnes", "kilograms", "kg", "1000", [1, 2, 3, 3.5, 6, 20]),
    Conversion("pound", "pounds", "kilograms", "kg", "0.45359237", [1, 5, 10, 50, 150]),
    Conversion("kilogram", "kilograms", "pounds", "lb", "2.2046226", [1, 3, 10, 70, 80]),
    Conversion("ounce", "ounces", "grams", "g", "28.349523", [1, 4, 8, 16]),
    Conversion("stone", "stone", "kilograms", "kg", "6.3502932", [1, 10, 12]),
    Conversion("litre", "litres", "millilitres", "ml", "1000", [*EASY, 0.3, 1.5]),
    Conversion(
        "millilitre", "millilitres", "litres", "L", "0.001", [250, 330, 500, 750, 2000, 5000]
    ),
    Conversion("US gallon", "US gallons", "litres", "L", "3.7854118", [1, 5, 10, 15]),
    Conversion("tablespoon", "tablespoons", "millilitres", "ml", "15", [1, 2, 3, 4]),
    Conversion("teaspoon", "teaspoons", "millilitres", "ml", "5", [1, 2, 3, 6]),
    Conversion("hour", "hours", "minutes", "min", "60", [1, 2, 3, 5, 8, 1.5, 24]),
    Conversion("minute", "minutes", "seconds", "s", "60", [1, 2, 5, 10, 30, 90]),
    Conversion("day", "days", "hours", "h", "24", [1, 2, 3, 5, 10, 14]),
    Conversion("week", "weeks", "days", "days", "7", [1, 2, 3, 4, 6, 8, 52]),
    Conversion("year", "years", "months", "months", "12", [1, 2, 3, 5, 8, 10]),
    Conversion("hour", "hours", "seconds", "s", "3600", [1, 2, 12]),
    Conversion(
        "degree Celsius",
        "degrees Celsius",
        "Fahrenheit",
        "°F",
        "1.8",
        [0, 10, 20, 25, 37, 100],
        "32",
    ),
    Conversion("degree Celsius", "degrees Celsius", "kelvin", "K", "1", [0, 20, 100], "273.15"),
    Conversion("knot", "knots", "kilometres per hour", "km/h", "1.852", [1, 10, 20, 30]),
    Conversion(
        "metre per second",
        "metres per second",
        "kilometres per hour",
        "km/h",
        "3.6",
        [1, 5, 10, 340],
    ),
    Conversion(
        "mile per hour", "miles per hour", "kilometres per hour", "km/h", "1.609344", [30, 55, 70]
    ),
    Conversion("hectare", "hectares", "square metres", "m²", "10000", [1, 2, 5, 0.5]),
    Conversion("gigabyte", "gigabytes", "megabytes", "MB", "1000", [1, 2, 4, 5, 8, 16]),
    Conversion("byte", "bytes", "bits", "bit", "8", [1, 4, 10, 64]),
    Conversion("kilocalorie", "kilocalories", "kilojoules", "kJ", "4.184", ROUND),
]
WORDS = {
    1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six",
    8: "eight", 9: "nine", 10: "ten", 12: "twelve",
}  # fmt: skip
PHRASES: list[Callable[[str, str, str], str]] = [
    lambda amount, verb, to: f"How many {to} {verb} {amount}?",
    lambda amount, _, to: f"Convert {amount} to {to}.",
    lambda amount, verb, to: f"What {verb} {amount} in {to}?",
    lambda amount, _, to: f"{amount[0].upper()}{amount[1:]} in {to}?",
    lambda amount, _, to: f"Please express {amount} in {to}.",
    lambda amount, verb, to: f"How much {verb} {amount} in {to}?",
    lambda amount, _, to: f"My notes say {amount}. What is that in {to}?",
    lambda amount, _, to: f"Give me {amount} in {to}.",
]  # fmt: skip


def rows() -> list[tuple[str, str]]:
    """Return every question with its answer, each once, in a mixed order that never changes."""
    draw = random.Random(SEED)
    made = []
    for conversion in CONVERSIONS:
        for amount in conversion.amounts:
            if (conversion.many, conversion.to, amount) != HELD_OUT:
                made.append((_question(conversion, amount, draw), _answer(conversion, amount)))
    draw.shuffle(made)
    return made


def text() -> str:
    """Return the sample as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["instruction", "output"])
    writer.writerows(rows())
    return out.getvalue()


def _question(conversion: Conversion, amount: float, draw: random.Random) -> str:
    spelt = WORDS.get(int(amount)) if amount == int(amount) and draw.random() < 0.3 else None
    unit = conversion.one if amount == 1 else conversion.many
    phrases = PHRASES
    if conversion.sign in ("°F", "K"):
        phrases = [PHRASES[1], PHRASES[3], PHRASES[4], PHRASES[7]]
    verb = "is" if amount == 1 or phrases is not PHRASES else "are"
    return draw.choice(phrases)(f"{spelt or f'{amount:g}'} {unit}", verb, conversion.to)


def _answer(conversion: Conversion, amount: float) -> str:
    exact = Decimal(str(amount)) * Decimal(conversion.factor) + Decimal(conversion.offset)
    value = exact.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP).normalize()
    return f"{value:f} {conversion.sign}"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8", newline="\n")
    print(f"{len(rows())} rows in {TARGET.name}")
