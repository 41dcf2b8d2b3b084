"""What a screen reader needs on every page: a heading, named parts, names that hold the text."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.test_settings import unfold
from tests.runs.homes import put_evaluation, put_export, put_run
from tests.ui.pages.run.reports import prompt_does

pytestmark = pytest.mark.browser

PROBLEMS = Path(__file__).with_name("accessibility.js").read_text("utf-8")


@pytest.fixture
def url(servers, home_with_starter):
    for number, name in enumerate(("first", "second")):
        put_run(home_with_starter, number, name=name, held=[2.0, 1.5])
    put_run(home_with_starter, 3, name="third", ending="failed")
    run = put_run(home_with_starter, 4, name="fourth")
    for number, (state, format) in enumerate(
        (("finished", "gguf"), ("finished", "adapter"), ("failed", "gguf"), ("lost", "merged"))
    ):
        put_export(home_with_starter, run, number, state=state, format=format)
    put_evaluation(home_with_starter, run, report=prompt_does())
    return servers(home_with_starter, pace_s=0.5).url


def test_every_page_has_a_heading_and_names(url, opened):
    page = opened(url)
    settings = {"task": "text-generation", "model_name": "starter", "compute_specs": "low_end"}
    settings |= {"dataset": "sample:captain"}
    for held in ("true", "false"):  # one waits, and one is in progress
        queued = page.request.post(f"{url}/api/queue?held={held}", data=settings)
        assert queued.ok, queued.text()
    active = queued.json()["id"]
    runs = page.request.get(f"{url}/api/runs").json()
    ids = {run["name"]: run["id"] for run in runs}
    found = {}
    for path in (
        "/?new=1",
        "/?from=nothing",
        "/?import=1",
        f"/?run={active}",
        f"/?run={ids['first']}",
        f"/?run={ids['third']}",
        f"/?run={ids['third']}&tab=evaluation",
        f"/?run={ids['second']}&tab=evaluation",
        f"/?run={ids['fourth']}&tab=evaluation",
        "/runs",
        f"/compare?runs={ids['first']},{ids['second']}",
        "/chat",
        "/export",
        "/machine",
        "/build",
        "/build?make=pairs",
        "/nosuchpage",
    ):
        page.goto(f"{url}{path}")
        if path != "/nosuchpage":
            page.wait_for_selector("[data-usable]")
        if path == "/?new=1":
            page.get_by_label("The captain").check()
            page.wait_for_selector('#start[aria-disabled="false"]')
            for card in ("task", "model", "machine"):
                unfold(page, card)
            page.locator("#tab-settings-all").click()
        if path == "/?import=1":
            page.locator("#import-text").fill("sample_packing: true\nlora_rank: 8\nrecipe: nvfp4\n")
            page.locator("#import-read").click()
            page.locator("#import-report").wait_for()
        if "tab=evaluation" in path:
            page.locator("#run-evaluation .card:visible").first.wait_for()
        if problems := page.evaluate(PROBLEMS):
            found[path] = problems
    assert found == {}
