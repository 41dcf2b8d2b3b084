"""The queue in the browser: runs wait, are reordered, held, removed, and started in turn."""

import re
import time
from datetime import datetime, timedelta

import pytest

from tests.browser.test_train import choose_the_captain, start, until

pytestmark = pytest.mark.browser


def waiting(page) -> list[str]:
    return page.locator(".waiting-run a.open").all_inner_texts()


def settled(page, expected: list[str]) -> None:
    deadline = time.monotonic() + 20
    while (seen := waiting(page)) != expected:
        assert time.monotonic() < deadline, f"{expected} never waited; it was {seen}"
        page.wait_for_timeout(50)


def enqueue(page, rank: int, **how) -> None:
    """Add a run named after its rank to the queue."""
    page.get_by_role("textbox", name="Run name").fill(f"rank {rank}")
    page.wait_for_selector('#enqueue[aria-disabled="false"]')
    page.get_by_role("button", name="Add to queue").click()
    if "after" in how:
        page.get_by_label("Start no earlier than").fill(how["after"])
    page.locator("dialog").get_by_role("button", name="Add to queue").click()
    page.get_by_text(f"“rank {rank}” is number").wait_for()


def test_runs_are_queued_reordered_and_started_in_turn(servers, home_with_starter, opened):
    server = servers(home_with_starter, pace_s=0.5)
    page = opened(server.url)
    start(page)
    page.goto(f"{server.url}/?new=1")
    page.wait_for_selector("[data-usable]")
    choose_the_captain(page)

    # While a run is in progress, Start adds to the queue.
    page.get_by_role("button", name="Start next").wait_for()
    assert page.locator("#start").get_attribute("aria-disabled") == "false"

    page.get_by_role("tab", name=re.compile("All")).click()
    for rank in (1, 2, 3):
        enqueue(page, rank)
    later = datetime.now().astimezone() + timedelta(days=20)
    enqueue(page, 4, after=later.strftime("%Y-%m-%dT22:30"))

    page.goto(f"{server.url}/runs")
    page.wait_for_selector(".waiting-run")
    settled(page, ["rank 1", "rank 2", "rank 3", "rank 4"])
    assert "is using this computer" in page.locator(".queue-state").inner_text()
    assert re.search(
        rf"after {later.day} .*22:30", page.locator(".waiting-run").nth(3).inner_text()
    )

    # By keyboard: the button keeps the focus while its row moves.
    up = page.get_by_role("button", name="Move rank 3 up")
    up.focus()
    page.keyboard.press("Enter")
    settled(page, ["rank 1", "rank 3", "rank 2", "rank 4"])
    page.keyboard.press("Enter")
    settled(page, ["rank 3", "rank 1", "rank 2", "rank 4"])

    page.get_by_role("button", name="Schedule rank 1").click()
    page.wait_for_function("document.activeElement.id === 'start-after'")
    page.keyboard.press("Escape")
    page.wait_for_function("document.activeElement.id.startsWith('schedule-')")
    page.get_by_role("button", name="Hold rank 1").click()
    page.get_by_role("button", name="Release rank 1").wait_for()
    page.get_by_role("button", name="Remove rank 2").click()
    page.locator("dialog").get_by_role("button", name="Remove").click()
    settled(page, ["rank 3", "rank 1", "rank 4"])

    # The first run ends and the next one starts; held and scheduled runs stay.
    page.locator(".runrow").get_by_role("button", name=re.compile("^Stop")).click()
    page.locator("dialog").get_by_role("button", name="Stop and keep").click()
    settled(page, ["rank 1", "rank 4"])
    until(page, "runs", r"(starting|running)\s+rank 3")
    page.reload()
    page.wait_for_selector(".waiting-run")
    settled(page, ["rank 1", "rank 4"])


def test_the_whole_queue_is_held_and_stops_after_failures(server, opened):
    page = opened(server.url)
    choose_the_captain(page)
    page.get_by_role("button", name="Add to queue").click()
    page.get_by_label("Hold it until I release it").check()
    page.locator("dialog").get_by_role("button", name="Add to queue").click()
    page.locator(".toast").wait_for()
    page.goto(f"{server.url}/runs")
    page.get_by_text("Every waiting run is held.").wait_for()
    page.get_by_role("button", name="Hold the queue").click()
    page.get_by_text("The queue is held.", exact=True).first.wait_for()
    switch = page.get_by_role("switch")
    switch.uncheck()
    page.reload()
    page.wait_for_selector(".waiting-run")
    assert not switch.is_checked()
    page.get_by_role("button", name="Release the queue").click()
    page.get_by_role("button", name=re.compile("^Release The captain")).click()
    until(page, "runs", "running")
    assert waiting(page) == []


@pytest.fixture
def server(servers, home_with_starter):
    return servers(home_with_starter)
