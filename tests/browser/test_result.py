"""The result of a failed run: cause, fix and support bundle."""

from __future__ import annotations

import json

import pytest

from modelforge.runs.event_types import FailedEvent, StartedEvent
from modelforge.runs.events import EventWriter
from tests.browser.test_train import start, until

pytestmark = pytest.mark.browser


@pytest.fixture
def server(servers, home_with_starter):
    return servers(home_with_starter)


@pytest.fixture
def failed(server, opened):
    """Open the page of a run that ran out of memory."""
    page = opened(server.url)
    start(page)
    until(page, "run-head", "finished")
    [folder] = (server.home / "runs").glob("2*")
    record = json.loads((folder / "config.json").read_text())
    record["config"]["per_device_train_batch_size"] = 4
    (folder / "config.json").write_text(json.dumps(record))
    (folder / "events.jsonl").unlink()
    failure = {"cause": "out-of-memory", "what": "The <GPU> is full.", "remedy": "Shorten it."}
    with EventWriter(folder / "events.jsonl") as events:
        events.write(StartedEvent(pid=1, birth=1.0))
        events.write(FailedEvent(**failure))
    # Another id, so that the server reads the events again.
    other = folder.with_name("20260101-000000-fa11")
    folder.rename(other)
    page.goto(f"{server.url}/?run={other.name}")
    until(page, "run-head", "failed")
    return page


def test_a_failed_run_is_started_again_with_its_fix(failed):
    page = failed
    head = page.locator('[data-part="run-verdict"]')
    assert "The <GPU> is full." in head.inner_text()
    assert "Shorten it." in head.inner_text()
    page.get_by_role("button", name="Apply and start again").click()
    asked = page.locator("dialog.ask").inner_text()
    assert "Batch size 4 → 2" in asked
    page.get_by_role("button", name="Start", exact=True).click()
    until(page, "run-head", r"\(again\)[\s\S]*finished")
    page.get_by_text("Numbers behind this verdict").click()
    assert "Loss at the end" in page.locator(".behind").inner_text()


def test_the_support_bundle_is_downloaded(failed):
    with failed.expect_download() as waited:
        failed.get_by_role("link", name="Download support bundle").click()
    assert waited.value.suggested_filename == "modelforge-20260101-000000-fa11.zip"
