"""The Export page without torch: keyboard, waiting figures, and what cannot be done."""

from __future__ import annotations

import socket

import pytest

from tests.browser.test_keyboard import press_to
from tests.runs.homes import put_export
from tests.services.exports.conftest import put_trained

pytestmark = pytest.mark.browser


@pytest.fixture
def url(servers, home_with_starter):
    starter = home_with_starter / "models" / "starter"
    runs = [put_trained(home_with_starter, starter, n, name=f"run {n}") for n in range(1, 4)]
    for number in range(10):
        put_export(home_with_starter, runs[0], number, age_s=900 - number)
    return servers(home_with_starter).url


def test_an_export_is_made_with_the_keyboard_alone(url, opened):
    page = opened(f"{url}/export")
    press_to(page, '[name="export-run"]', 20)
    press_to(page, '[name="export-format"]', 8)
    page.keyboard.press("ArrowLeft")
    page.wait_for_function('document.activeElement.value === "merged"')
    page.wait_for_selector('#export-start[aria-disabled="false"]')
    # The buttons of the exports that are there already come after it.
    press_to(page, "#export-start", 12)
    page.keyboard.press("Enter")
    page.locator(".exp", has_text="Merged model, 16-bit").wait_for()


def test_figures_of_an_earlier_choice_are_marked_until_the_new_ones_are_there(url, opened):
    page = opened(f"{url}/export")
    page.wait_for_selector('#export-start[aria-disabled="false"]')
    held, is_slow = [], [True]

    def hold(route):
        held.append(route) if is_slow else route.continue_()

    page.route("**/component_server/**", hold)
    page.get_by_label("Q8_0", exact=True).check()
    page.get_by_text("Calculating…").wait_for()
    is_slow.clear()
    for route in held:
        route.continue_()
    page.get_by_text("run-1-Q8_0.gguf").first.wait_for()
    page.get_by_text("Calculating…").wait_for(state="detached")
    # The tile of the format shows the size of the new choice as the plan does.
    tile = page.locator('label:has([name="export-format"]:checked)')
    sizes = [
        place.get_by_text("Size", exact=True).locator("xpath=following-sibling::*").inner_text()
        for place in (tile, page.locator('[data-part="export-plan"]'))
    ]
    assert sizes[0] == sizes[1]


def test_what_cannot_be_served_or_uploaded_says_why(url, opened):
    page = opened(f"{url}/export")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        page.locator("#serve-port").fill(str(port))
        page.locator("#serve-switch").click()
        panel = page.locator("#serve")
        panel.get_by_text(f"Port {port} cannot be used: another program uses it.").wait_for()
    assert not page.locator("#serve-switch").is_checked()
    page.locator("#serve-port").fill("eight")
    page.locator("#serve-switch").click()
    panel.get_by_text("The port, 'eight', is not a number.").wait_for()
    page.locator("#export-format-hub").check()
    page.get_by_text("There is no token for the Hugging Face Hub.").wait_for()
    assert page.locator("#export-start").get_attribute("aria-disabled") == "true"
