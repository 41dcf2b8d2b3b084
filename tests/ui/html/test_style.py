"""Text colors of the stylesheet have enough contrast on their backgrounds, light and dark."""

import re

import pytest

from modelforge.paths import resource_folder

CSS = (resource_folder("assets") / "css" / "app.css").read_text("utf-8")
# Color of a text → where it stands.
TEXTS = {
    "ink": ("bg", "card", "sunk"),
    "ink-2": ("bg", "card", "sunk"),
    "ink-3": ("bg", "card", "sunk"),
    "ember-ink": ("bg", "card", "sunk", "ember-soft"),
    "good": ("card", "good-soft"),
    "warn": ("bg", "card", "warn-soft"),
    "bad": ("card", "sunk", "bad-soft"),
    "on-ember": ("ember",),
}


def colors(theme: str) -> dict[str, str]:
    light, dark = (
        dict(
            re.findall(r"--([\w-]+): (#[0-9a-f]+);", CSS.partition(f"{start} {{")[2].split("}")[0])
        )
        for start in ("\n:root", "\n:root.dark")
    )
    return light if theme == "light" else light | dark


def luminance(color: str) -> float:
    """Return the relative luminance as WCAG defines it."""
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    parts = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_has_a_contrast_of_at_least_four_and_a_half(theme, text):
    known = colors(theme)
    for background in TEXTS[text]:
        dark, light = sorted((luminance(known[text]), luminance(known[background])))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, background
