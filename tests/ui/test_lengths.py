"""Lengths: the histogram and the shares beside it."""

from ui.html import charts
from ui.pages.train import token_view


def test_bars_beyond_the_limit_are_told_apart():
    page = charts.bars("Tokens a row", [(64, 10), (128, 4), (192, 1)], limit=128)
    assert page.count('class="in"') == 2
    assert page.count('class="over"') == 1
    assert "15 in all, most of them up to 64, the longest up to 192" in page


def test_nothing_to_measure_is_said():
    assert "nothing to measure" in charts.bars("Tokens a row", [])


def test_shares_are_told_as_people_read_them():
    assert token_view.share(0.006) == "0.6 %"
    assert token_view.share(None) == "–"
