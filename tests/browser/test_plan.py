"""A plan that does not fit is changed by one click, measured in a trial run, and trained."""

import re
from dataclasses import replace

import pytest

from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.hardware.machine import probe_machine
from modelforge.paths import Home
from tests.browser.test_settings import all_settings, unfold
from tests.browser.test_train import choose_the_captain, until
from tests.train.conftest import tiny_model  # noqa: F401 - a fixture

pytestmark = pytest.mark.browser

WIDE = {"max_seq_length": "1024", "per_device_train_batch_size": "64"}
LARGE = 4096
LONGEST_S = 240


@pytest.fixture
def small(servers, home_with_starter):
    return servers(home_with_starter, machine={"gpus": [], "ram_free_gib": 3.0})


def part(page, name):
    return page.locator(f'.for-form [data-part="{name}"]').first


def make_it_wide(page):
    choose_the_captain(page)
    all_settings(page)
    page.get_by_label("Gradient checkpointing", exact=True).uncheck()
    for name, value in WIDE.items():
        page.locator(f"#f-{name}").fill(value)
    page.locator("#make-fit").wait_for()


def test_a_plan_is_made_to_fit_and_the_change_undone(small, opened):
    page = opened(small.url)
    make_it_wide(page)
    assert "does not fit" in part(page, "plan").inner_text()
    assert "go" not in page.locator("#start").get_attribute("class").split()
    page.get_by_role("button", name="Make it fit").click()
    page.locator('[data-part="plan"] .chip.good', has_text="fits").wait_for()
    sizes = [
        int(page.locator(f"#f-{name}").input_value())
        for name in ("per_device_train_batch_size", "gradient_accumulation_steps")
    ]
    assert sizes[0] * sizes[1] == 64
    assert sizes[0] < 64
    assert page.locator('[data-origin="gradient_accumulation_steps"]').inner_text() == "you"
    assert page.locator("#make-fit").count() == 0
    assert f"Changed: set the batch size to {sizes[0]}" in page.locator(".applied").inner_text()
    page.reload()
    page.wait_for_selector("[data-usable]")
    page.locator("#undo-settings").click()
    page.locator("#make-fit").wait_for()
    assert page.locator("#f-per_device_train_batch_size").input_value() == "64"
    assert page.locator(".applied").is_hidden()


def test_another_option_is_used_and_open_details_stay_open(small, opened):
    page = opened(small.url)
    make_it_wide(page)
    page.locator("#other-options summary").click()
    page.locator("#f-num_train_epochs").fill("7")
    page.locator('[data-origin="num_train_epochs"]', has_text="you").wait_for()
    assert page.locator("#other-options").get_attribute("open") is not None
    others = page.locator("#other-options")
    others.get_by_role("button", name=re.compile("^Use: Switch gradient")).click()
    page.wait_for_function("document.querySelector('#f-gradient_checkpointing').checked")
    assert "Changed: switch gradient checkpointing on." in page.locator(".applied").inner_text()


def test_an_invalid_setting_keeps_the_last_plan_in_grey(small, opened):
    page = opened(small.url)
    choose_the_captain(page)
    before = part(page, "plan").inner_text()
    page.locator("#f-learning_rate").fill("7")
    page.wait_for_selector('[data-part="plan"][inert]')
    assert part(page, "plan").inner_text() == before
    assert page.locator(".before").is_visible()
    page.locator("#f-learning_rate").fill("1e-4")
    page.wait_for_selector('[data-part="plan"]:not([inert])')
    assert page.locator(".before").is_hidden()


def test_models_that_do_not_fit_are_shown_on_demand(small, opened):
    page = opened(small.url)
    unfold(page, "model")
    hidden = page.locator("#card-model .choice.hopeless")
    hidden.first.wait_for(state="attached")
    assert not hidden.first.is_visible()
    page.get_by_label("Show models that do not fit").check()
    assert hidden.first.is_visible()
    assert "does not fit" in hidden.first.inner_text()


def test_the_reward_is_tried_in_the_trial_run_and_its_verdict_stays(
    servers, home_with_starter, opened
):
    page = opened(servers(home_with_starter).url)
    page.get_by_label("Short or rambling").check()
    unfold(page, "task")
    page.get_by_label("Rewards (RLHF)").check()
    page.locator('select[name="trainer.reward"]').select_option("length")
    page.wait_for_selector('#trial-run[aria-disabled="false"]')
    page.get_by_role("button", name="Trial run", exact=True).click()
    verdict = page.locator("#reward-trial")
    verdict.wait_for()
    assert "One word, repeated, gets 1.00" in verdict.inner_text()
    assert verdict.locator(".chip.warn").inner_text() == "cheatable"
    assert "24 of 64" in verdict.inner_text()
    row = verdict.get_by_text("One word repeated", exact=True)
    assert row.is_hidden()
    verdict.locator("summary").click()
    assert row.is_visible()
    # In larger groups the signal is another.
    completions = page.get_by_label("Completions per prompt", exact=True)
    before = completions.input_value()
    completions.fill("3")
    verdict.wait_for(state="detached")
    completions.fill(before)
    verdict.wait_for()


@pytest.mark.torch
def test_a_plan_is_made_to_fit_measured_and_trained(
    servers, home_with_starter, tiny_model, opened  # noqa: F811 - a fixture
):  # fmt: skip
    free = between(home_with_starter, tiny_model)
    server = servers(home_with_starter, real=True, machine={"gpus": [], "ram_free_gib": free})
    page = opened(server.url)
    unfold(page, "model")
    page.get_by_label("Another model").fill(str(tiny_model))
    choose_the_captain(page)
    page.locator("#f-per_device_train_batch_size").fill(str(LARGE))
    page.get_by_role("button", name="Make it fit").click()
    page.locator('[data-part="plan"] .chip.good', has_text="fits").wait_for()
    page.wait_for_selector('#trial-run[aria-disabled="false"]')

    page.get_by_role("button", name="Trial run", exact=True).click()
    until(page, "trial-run", "Trial run")
    page.reload()
    page.wait_for_selector("[data-usable]")
    text = until(page, "plan", "Measured in a trial run", LONGEST_S)
    assert re.search(r"Time per step\s+[\d.]+ s", text), text
    assert re.search(r"Checkpoint size\s+[\d.]+ .iB", text), text
    assert "fits" in text

    page.wait_for_selector('#start[aria-disabled="false"]')
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile(r"\?run="))
    until(page, "run-head", "finished", LONGEST_S)
    assert "Planned tokens per second" in until(page, "run-side", "Duration")


def between(home, model):
    """Return how much free memory is too little for a large batch, and enough for a small one."""
    forge = Forge(
        Home(home), warm_worker=["true"], probe=lambda root: replace(probe_machine(root), gpus=[])
    )
    profile = forge.layers.prefill().values
    values = {**profile, "model_name": str(model), "dataset": "sample:captain"}
    totals = [
        forge.preflight.check(
            Layer("values", {**values, "per_device_train_batch_size": size})
        ).report
        for size in (1, LARGE)
    ]
    forge.close()
    small, large = (report.memory_total_gib for report in totals)
    # A trial run measures the memory, which may be more than is estimated.
    free = round(1.5 * small, 2)
    assert free < large, (small, large)
    return free
