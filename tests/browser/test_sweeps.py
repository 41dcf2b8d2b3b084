"""Sweeps in the browser: start one, follow its trials, use what it has found, stop it."""

import re

import pytest

from tests.browser.test_train import choose_the_captain

pytest.importorskip("optuna")
pytestmark = pytest.mark.browser


@pytest.fixture
def url(servers, home_with_starter):
    return servers(home_with_starter, worker="learns.py", pace_s=0.5).url


def open_form(page):
    page.get_by_role("button", name="Find the best settings").first.click()
    box = page.get_by_role("dialog", name="Find the best settings")
    box.wait_for()
    return box


def test_a_search_is_started_followed_stopped_and_its_best_values_are_used(url, opened):
    page = opened(url)
    choose_the_captain(page)
    page.goto(f"{url}/runs")
    page.wait_for_selector("[data-usable]")
    assert page.locator(".sweep").count() == 0
    box = open_form(page)
    assert box.get_by_label("Settings of").input_value() == "form"
    assert "trials" in box.locator(".cost").inner_text()

    # A time that is too short is named beside the field, and refused with nothing created.
    box.get_by_label("Time", exact=True).fill("10s")
    box.get_by_text("10 s are too short").wait_for()
    box.get_by_role("button", name="Start").click()
    box.locator(".wrong").get_by_text("too short").wait_for()
    box.get_by_label("Time", exact=True).fill("9h")
    box.get_by_text(re.compile("9 h are enough for about")).wait_for()
    box.get_by_label("Values of Learning rate").fill("1e-5..1e-3")
    box.get_by_role("button", name="Start").click()

    card = page.locator(".sweep")
    card.get_by_text("Best so far").first.wait_for()
    assert card.locator(".varied tbody tr").all_inner_texts()[0].startswith("Learning rate")
    page.wait_for_selector(".spark.out", timeout=90_000)
    use = card.get_by_role("button", name="Use the best")
    use.wait_for()
    card.get_by_role("button", name="Stop here").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop here").click()
    card.get_by_text("Use them anyway").wait_for()
    assert card.get_by_role("button", name="Stop here").count() == 0
    card.get_by_role("button", name="Show the trials").click()
    best = card.locator(".spark.on .values").inner_text()
    card.get_by_text("Use them anyway").click()
    page.wait_for_selector("#settings-basic [name=learning_rate]")
    rate = float(page.locator("[name=learning_rate]").input_value())
    assert rate == pytest.approx(float(best), rel=0.06)

    # A search is deleted, and its trials stay.
    page.goto(f"{url}/runs")
    page.wait_for_selector("[data-usable]")
    card.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    card.wait_for(state="detached")
    page.get_by_text("Only trials yet").wait_for()


def test_without_settings_the_form_says_where_to_choose_them(url, opened):
    page = opened(f"{url}/runs")
    box = open_form(page)
    box.get_by_text("Choose data and a model first").wait_for()
    assert box.locator("#sweep-start").get_attribute("aria-disabled") == "true"
