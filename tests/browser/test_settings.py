"""The form follows task and strategy; a run shows its charts."""

import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from modelforge.runs.event_types import (
    FinishedEvent,
    PlanEvent,
    SampleEvent,
    ScoresEvent,
    StartedEvent,
    StepEvent,
)
from modelforge.runs.events import EventWriter
from tests.browser.test_train import choose_the_captain, until

pytestmark = pytest.mark.browser


@pytest.fixture
def server(servers, home_with_starter):
    return servers(home_with_starter)


def all_settings(page):
    page.get_by_role("tab", name=re.compile("^All")).click()


def unfold(page, card):
    page.locator(f"#card-{card} button.head").click()


def settled(page, name, value):
    page.wait_for_function(
        "([name, value]) => document.querySelector(`[name='${name}']`).value === value",
        arg=[name, value],
    )


def until_ready(page):
    page.locator('#start[aria-disabled="false"]').wait_for()


def test_a_strategy_brings_its_settings_and_learning_rate(server, opened):
    page = opened(server.url)
    all_settings(page)
    before = page.locator("#f-learning_rate").input_value()
    assert page.get_by_label("Preference loss", exact=True).is_hidden()
    assert page.get_by_role("heading", name="Preferences").is_hidden()
    unfold(page, "task")
    page.get_by_label("Preferences (DPO)").check()
    page.get_by_label("Preference loss", exact=True).wait_for(state="visible")
    assert page.get_by_label("Beta", exact=True).is_visible()
    assert page.get_by_label("Packing", exact=True).is_hidden()
    assert page.get_by_role("heading", name="Rewards").is_hidden()
    assert page.locator("#f-learning_rate").input_value() != before
    origin = page.locator('[data-origin="learning_rate"]')
    assert origin.inner_text() == "recommended for dpo"
    page.get_by_label("Supervised (SFT)").first.check()
    settled(page, "learning_rate", before)
    assert page.get_by_label("Preference loss", exact=True).is_hidden()


def test_a_sample_brings_its_strategy(server, opened):
    page = opened(server.url)
    page.get_by_label("Short or rambling").check()
    page.locator('[data-origin="learning_rate"]', has_text="recommended for dpo").wait_for()
    until_ready(page)
    page.get_by_label("The captain").check()
    page.locator('[data-origin="learning_rate"]', has_not_text="recommended for dpo").wait_for()
    until_ready(page)
    assert page.locator('[name="strategy"]:checked').get_attribute("value") == "sft"


def test_a_learning_rate_of_the_user_stays(server, opened):
    page = opened(server.url)
    page.locator("#f-learning_rate").fill("3e-3")
    unfold(page, "task")
    page.get_by_label("Rewards (RLHF)").check()
    page.wait_for_function(
        "!document.querySelector('[data-setting-box=\"trainer.reward\"]').hidden"
    )
    assert page.locator("#f-learning_rate").input_value() == "3e-3"
    assert page.locator('[data-origin="learning_rate"]').inner_text() == "you"


def test_a_choice_survives_the_reply_to_an_older_form(server, opened):
    page = opened(server.url)
    page.clock.install()
    page.reload()
    page.wait_for_selector("[data-usable]")
    unfold(page, "task")
    page.clock.pause_at(datetime.now(UTC) + timedelta(seconds=60))
    page.wait_for_timeout(500)
    held = []

    def hold(route):
        held.append(route)

    page.route("**/component_server/**", hold)
    page.locator("#f-learning_rate").fill("3e-3")
    page.clock.run_for(400)
    deadline = time.monotonic() + 20
    while not held:
        assert time.monotonic() < deadline, "the form was not checked"
        page.wait_for_timeout(50)
    page.get_by_label("Rewards (RLHF)").click()
    with page.expect_response("**/component_server/**"):
        held[0].continue_()
    page.wait_for_timeout(300)
    assert page.get_by_label("Rewards (RLHF)").is_checked()
    page.unroute_all()
    page.clock.run_for(100)
    page.wait_for_function(
        "!document.querySelector('[data-setting-box=\"trainer.reward\"]').hidden"
    )


def test_only_settings_of_the_chosen_reward_are_shown(server, opened):
    page = opened(server.url)
    all_settings(page)
    unfold(page, "task")
    page.get_by_label("Rewards (RLHF)").check()
    page.get_by_label("Reward epochs", exact=True).wait_for(state="visible")
    assert page.get_by_label("Pattern", exact=True).is_hidden()
    page.locator('select[name="trainer.reward"]').select_option("regex")
    page.get_by_label("Pattern", exact=True).wait_for(state="visible")
    assert page.get_by_label("Reward epochs", exact=True).is_hidden()


def test_a_hidden_setting_keeps_its_value(server, opened):
    page = opened(server.url)
    choose_the_captain(page)
    all_settings(page)
    page.get_by_label("Packing", exact=True).check()
    page.get_by_label("Packing strategy", exact=True).wait_for(state="visible")
    unfold(page, "task")
    page.get_by_label("Preferences (DPO)").check()
    page.get_by_label("Packing", exact=True).wait_for(state="hidden")
    assert page.locator('[data-error="packing"]').inner_text() == ""
    page.get_by_label("Supervised (SFT)").first.check()
    page.get_by_label("Packing", exact=True).wait_for(state="visible")
    assert page.get_by_label("Packing", exact=True).is_checked()


def test_a_task_brings_its_models(server, opened):
    page = opened(server.url)
    unfold(page, "task")
    unfold(page, "model")
    page.get_by_label("Extractive QA").check()
    page.locator('#card-model input[value*="squad2"]').first.wait_for(state="attached")
    assert page.get_by_label("Preferences (DPO)").is_disabled()


def test_the_hub_is_searched_on_request_and_offline_is_reported(server, opened):
    page = opened(server.url)
    unfold(page, "model")
    page.get_by_text("Search the Hugging Face Hub").click()
    page.get_by_label("Words in the name").fill("qwen3")
    page.wait_for_timeout(300)
    assert page.locator(".toast").count() == 0
    page.get_by_label("Words in the name").press("Enter")
    page.locator(".toast.bad").wait_for()
    assert "HF_HUB_OFFLINE" in page.locator(".toast.bad").inner_text()
    assert "HF_HUB_OFFLINE" in page.locator('[data-failed="hub-search"]').inner_text()


def test_a_run_with_stages_shows_progress_charts_and_samples(server, opened):
    page = opened(server.url)
    choose_the_captain(page)
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile(r"\?run="))
    until(page, "run-head", "finished")
    folder = next((server.home / "runs").glob("*/events.jsonl")).parent
    (folder / "events.jsonl").unlink()
    with EventWriter(folder / "events.jsonl") as events:
        events.write(StartedEvent(pid=1, birth=1.0))
        for stage, measured in ((1, "margin"), (2, "reward")):
            names = ("", "Learning what people prefer", "Learning to be preferred")
            events.write(PlanEvent(total_steps=4, stage=stage, stages=2, stage_name=names[stage]))
            for step in range(1, 5):
                numbers = {measured: step / 4}
                events.write(StepEvent(step=step, loss=1.0, stage=stage, metrics=numbers))
        sample = SampleEvent(step=4, stage=2, prompt="<b>Who?</b>", completion="I.", reward=1.0)
        events.write(sample)
        events.write(ScoresEvent(rows=9, before={"perplexity": 20.0}, after={"perplexity": 9.0}))
        events.write(FinishedEvent(steps=4, seconds=2.0, output="output"))
    copy = folder.with_name("20261121-000000-0001")
    folder.rename(copy)
    config = (copy / "config.json").read_text("utf-8").replace(folder.name, copy.name)
    (copy / "config.json").write_text(config, "utf-8")
    page = opened(f"{server.url}/?run={copy.name}")
    assert "Stage 2 of 2 · Learning to be preferred" in until(page, "run-stages", "Stage 1 of 2")
    assert "<b>Who?</b>" in until(page, "run-samples", "I.")
    until(page, "run-scores", "Perplexity")
    assert page.get_by_role("heading", name="Mean reward").is_visible()
    assert page.get_by_role("heading", name="Stage 1 · Learning what people prefer").is_visible()
    read_a_chart(page)


def read_a_chart(page):
    """Read values by keyboard, in a table, zoomed, and with a hidden curve."""
    chart = page.locator('[data-chart="loss"]')
    chart.locator("canvas").wait_for()
    area, values = chart.locator(".chart-area"), chart.locator("output")
    area.focus()
    page.keyboard.press("Home")
    assert values.inner_text().startswith("step 1 · training 1")
    page.keyboard.press("ArrowRight")
    assert values.inner_text().startswith("step 2")
    page.keyboard.press("+")
    chart.get_by_role("button", name="Reset zoom").wait_for()
    page.keyboard.press("Escape")
    chart.get_by_role("button", name="Reset zoom").wait_for(state="hidden")
    chart.get_by_text("Values as a table").click()
    # The table is filled when its element has been opened.
    chart.locator("tbody tr").first.wait_for()
    assert chart.locator("tbody tr").count() == 4


def test_a_curve_is_hidden_and_a_chart_zoomed(server, opened):
    page = opened(server.url)
    choose_the_captain(page)
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile(r"\?run="))
    until(page, "run-head", "finished")
    chart = page.locator('[data-chart="loss"]')
    key = chart.get_by_role("button", name="training")
    key.click()
    assert key.get_attribute("aria-pressed") == "false"
    box = chart.locator(".u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + 40)
    assert "evaluation" in chart.locator("output").inner_text()
    assert "training" not in chart.locator("output").inner_text()
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40, steps=4)
    page.mouse.up()
    chart.get_by_role("button", name="Reset zoom").click()
    chart.get_by_role("button", name="Reset zoom").wait_for(state="hidden")


def test_one_control_writes_the_format_of_the_weights(server, opened):
    page = opened(server.url)
    weights = page.get_by_label("Weights while training", exact=True)
    assert weights.input_value() == "none"
    weights.select_option("8-bit")
    box = page.locator('[data-setting-box~="use_8bit"]')
    box.locator(".lab .origin", has_text="you").wait_for()
    assert weights.input_value() == "bnb-8bit"
    page.get_by_role("button", name="More about Weights").click()
    assert "use_8bit (you)" in box.locator(".more").inner_text()
    assert box.locator(".more").is_visible()
    page.get_by_role("tab", name="Recipe").click()
    recipe = page.locator('[data-part="recipe"]').inner_text()
    assert re.search(r"use_8bit: '?true", recipe)
    for words in ("use_4bit", "scheme", "nvfp4"):
        page.get_by_label("Search settings").fill(words)
        weights.wait_for()
        assert page.get_by_label("Learning rate", exact=True).is_hidden()
    page.get_by_role("button", name="Undo my change of Weights").click()
    settled(page, "quantization.scheme", "none")
    box.locator(".lab .origin", has_not_text="you").wait_for()


def test_choices_are_stored_as_a_preset_and_copied_as_a_command(server, opened):
    page = opened(server.url)
    page.locator("#f-lora_r").fill("24")
    page.get_by_role("button", name="Presets").click()
    box = page.locator("dialog.ask")
    assert box.evaluate("box => getComputedStyle(box).borderRadius") != "0px"
    box.get_by_label("Save your choices as").fill("Mine")
    box.get_by_role("button", name="Save").click()
    page.get_by_text("The preset “Mine” is stored.").wait_for()
    page.locator("#f-lora_r").fill("32")
    page.get_by_role("button", name="Presets").click()
    page.get_by_role("button", name="Apply Mine").click()
    page.get_by_role("dialog", name="Apply “Mine”?").get_by_role("button", name="Apply").click()
    settled(page, "lora_r", "24")
    page.locator("#toasts").get_by_role("button", name="Undo").click()
    settled(page, "lora_r", "32")
    choose_the_captain(page)
    until_ready(page)
    page.get_by_role("tab", name="Recipe").click()
    page.evaluate(
        "() => { navigator.clipboard.writeText = async (text) => { window.copied = text; }; }"
    )
    page.get_by_role("button", name="Copy command").click()
    assert "--set lora_r=32" in page.evaluate("() => window.copied")
    page.locator("#settings-recipe").get_by_role("button", name="Copy", exact=True).click()
    assert "lora_r: 32\n" in page.evaluate("() => window.copied")
