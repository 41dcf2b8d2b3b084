"""Train the starter model on the CPU through a real browser, and chat with it."""

import re
import time

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.torch]

QUESTION = "What is the capital of France?"
LONGEST_S = 600


def part(page, name):
    return page.locator(f'[data-part="{name}"]').first


def until(page, name, pattern, seconds):
    deadline = time.monotonic() + seconds
    while not (found := re.search(pattern, seen := part(page, name).inner_text())):
        assert time.monotonic() < deadline, f"{name} never showed {pattern}; it showed {seen!r}"
        page.wait_for_timeout(200)
    return found


def steps(page, at_least, seconds):
    deadline = time.monotonic() + seconds
    while True:
        found = re.search(r"step (\d+) of \d+", part(page, "run-progress").inner_text())
        if found and int(found[1]) >= at_least:
            return int(found[1])
        assert time.monotonic() < deadline, part(page, "run-progress").inner_text()
        page.wait_for_timeout(200)


def test_the_starter_learns_the_style_of_the_captain(servers, home_with_starter, opened):
    server = servers(home_with_starter, real=True)
    page = opened(server.url)
    page.get_by_label("The captain").check()
    page.wait_for_selector('#start[aria-disabled="false"]')
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile(r"\?run="))

    first = steps(page, 3, LONGEST_S)
    assert page.locator('[data-chart="loss"] canvas').count() == 1
    page.reload()
    page.wait_for_selector("[data-usable]")
    assert steps(page, first, 60) >= first
    until(page, "run-head", "finished", LONGEST_S)

    page.get_by_role("link", name="Chat with it").click()
    page.get_by_label("Your message").fill(QUESTION)
    page.get_by_role("button", name="Send").click()
    page.wait_for_function(
        "document.body.innerText.match(/Captain Brindle/) && "
        "document.body.innerText.match(/capital of France is Paris\\./)",
        timeout=120_000,
    )
    text = page.locator("main").inner_text()
    assert "Ahoy" in text, text
