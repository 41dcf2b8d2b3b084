"""A model that grows: its settings, its stages in the check, and the page of its run."""

import re
import time

import pytest

pytestmark = pytest.mark.browser


@pytest.fixture
def server(servers, home_with_starter):
    return servers(home_with_starter)


def part(page, name):
    return page.locator(f'[data-part="{name}"]').first


def started(page, server, **settings):
    """Start a run over REST and return its id."""
    values = {
        "task": "text-generation",
        "model_name": "starter",
        "dataset": "sample:captain",
        "compute_specs": "low_end",
        "progressive": {"enabled": True, "stages": 2, "steps_per_stage": 6, **settings},
    }
    reply = page.request.post(f"{server.url}/api/runs", data=values)
    assert reply.ok, reply.text()
    return reply.json()["id"]


@pytest.mark.parametrize("shade", ["light", "dark"])
def test_the_page_shows_the_stack_its_stages_and_what_growing_gave(server, opened, shade):
    page = opened(server.url, shade=shade)
    run = started(page, server, trunk="lora")
    page.goto(f"{server.url}/?run={run}")
    growth = part(page, "run-growth")
    growth.get_by_text("What growing gave").wait_for()
    growth.get_by_text("after stage 2 of 2").wait_for()
    text = " ".join(growth.inner_text().split())
    assert "The new layers lowered the evaluation loss by 0.400" in text
    assert "95 % interval 0.350 to 0.450" in text
    assert re.search(r"Before 30 layers 2\.400", text)
    assert re.search(r"1 · layer 31 6 steps, .*? 2\.200 1\.\d GiB 1\.1 GiB measured done", text)
    assert re.search(r"All 2 layers at once would need 1\.\d GiB\.", text)
    # One curve over the steps of both stages.
    curve = page.locator('[data-chart="by-stage"] [role="img"]')
    assert "at step 12" in curve.get_attribute("aria-label")
    assert page.locator('[data-part="run-earlier"] [data-chart]').count() == 0
    part(page, "run-verdict").get_by_text("12 steps in").wait_for()
    assert "1 · layer 31" in text
    assert "2 · layer 32" in text
    colours = growth.locator(".stack li i").evaluate_all(
        "bars => [...new Set(bars.map(bar => getComputedStyle(bar).backgroundColor))]"
    )
    assert len(colours) > 1
    # Nothing is wider than the page.
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def ended(page, address, seconds=60):
    """Wait until a run has finished."""
    deadline = time.monotonic() + seconds
    while (state := page.request.get(address).json()["state"]) != "finished":
        assert time.monotonic() < deadline, state
        page.wait_for_timeout(100)


@pytest.mark.parametrize("width", [1280, 390])
def test_growing_is_compared_with_lora_and_with_all_layers_at_once(server, opened, width):
    page = opened(server.url, width=width)
    run = started(page, server)
    page.goto(f"{server.url}/?run={run}")
    growth = part(page, "run-growth")
    growth.get_by_text("after stage 2 of 2").wait_for()
    for way in ("lora", "at-once"):
        page.locator(f"#compare-{way}").click()
        # It waits, trains, and is read when the page is opened again.
        page.locator(f"#compare-{way}").wait_for(state="detached")
        other = page.request.get(f"{server.url}/api/runs/{run}/growth/comparisons").json()
        found = next(each for each in other if each["way"] == way)
        growth.locator(f'a[href="/?run={found["run"]}"]').wait_for()
        ended(page, f"{server.url}/api/runs/{found['run']}")
        page.goto(f"{server.url}/?run={run}")
        growth.get_by_text("after stage 2 of 2").wait_for()
    text = " ".join(growth.inner_text().split())
    assert "LoRA with the same FLOPs lowered it by" in text
    assert "Training all 2 layers at once with the same FLOPs lowered it by 0.200" in text
    assert "Growing was better by 0.200" in text
    assert growth.locator(".gains svg.dot-plot").count() == 3
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_growing_is_chosen_on_the_form(server, opened):
    page = opened(server.url)
    page.locator('input[name="dataset"][value="sample:captain"]').check(force=True)
    page.locator("#card-task .head").click()
    choice = page.locator("#grow-model")
    choice.locator("summary").click()
    choice.get_by_role("radio", name="Grow it").check()
    choice.get_by_label("Stages", exact=True).fill("3")
    choice.get_by_label("Steps of a stage", exact=True).fill("4")
    part(page, "plan").get_by_text("3 stages", exact=True).wait_for()
    part(page, "sum-task").get_by_text("3 new layers in 3 stages").wait_for()
    page.locator('#start[aria-disabled="false"]').click()
    part(page, "run-growth").get_by_text("3 · layer 33").wait_for()
    part(page, "run-progress").get_by_text("of 3").first.wait_for()
