"""Templates escape values, and their line breaks are not part of the page."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from ui.html.templates import render


def test_values_are_escaped():
    drawn = render("chat", "ideas", ["<b>"])
    assert ">&lt;b&gt;</button>" in drawn


def test_line_breaks_beside_tags_are_not_part_of_the_page():
    assert "\n" not in render("models", "busy", "20260101")


def test_a_missing_value_is_an_error():
    with pytest.raises(UndefinedError):
        render("models", "busy")
