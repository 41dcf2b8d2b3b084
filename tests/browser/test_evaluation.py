"""The tabs Evaluation and Samples of a run: a report, what it prepares, and answers over time."""

from __future__ import annotations

import json

import pytest

from tests.runs.homes import add_samples, put_evaluation, put_run
from tests.ui.pages.run.reports import report, too_few

pytestmark = pytest.mark.browser


@pytest.fixture
def run(home_with_starter):
    settings = {"dataset": "sample:captain", "model_name": "starter", "task": "text-generation"}
    return put_run(home_with_starter, name="captain", held=[1.5, 0.9], **settings)


@pytest.fixture
def report_page(servers, home_with_starter, run, opened):
    """Return a function that opens the tab with a report."""

    def show(made, **more):
        put_evaluation(home_with_starter, run, report=made)
        url = servers(home_with_starter).url
        page = opened(f"{url}/?run={run.id}&tab=evaluation", **more)
        page.locator("#evaluation-verdict").wait_for()
        return page

    return show


def form(page):
    return json.loads(page.evaluate("sessionStorage.getItem('modelforge-form')"))


def test_a_report_leads_to_the_next_run(report_page, home_with_starter):
    page = report_page(report())
    assert page.get_by_role("tab", name="Evaluation").get_attribute("aria-selected") == "true"
    plot = page.get_by_role("img", name="Tuned model: 2.29, 95 % interval 2.15–2.45")
    assert plot.is_visible()
    head = page.get_by_role("columnheader", name="95 % interval").first
    assert head.count() == 1
    lost = page.get_by_role("button", name="Show the 8 lost answers")
    lost.focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("region", name="Lost answers").is_visible()
    for width in (390, 700, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width

    # Rows are left out of a copy, and used again.
    page.get_by_role("button", name="Leave out row 33").click()
    again = page.get_by_role("button", name="Use again row 33")
    again.wait_for()
    page.get_by_role("button", name="Leave one out of rows 8 and 41").click()
    page.get_by_role("button", name="Use again rows 8 and 41").wait_for()
    again.click()
    page.get_by_role("button", name="Leave out row 33").wait_for()
    page.get_by_role("link", name="Edit row 33").click()
    page.locator("#row-save").wait_for()
    assert "of 234" in page.locator('[data-part="row-editor"]').inner_text()
    page.locator("#edit-column-1").fill("Are you <b>open</b>?")
    page.locator("#row-save").click()
    page.locator('[data-part="row-editor"]').get_by_text("changed", exact=True).wait_for()
    page.locator('[data-part="sum-data"]', has_text="233 rows").wait_for()
    [copy] = [path for path in (home_with_starter / "uploads").iterdir()
              if path.name == form(page)["values"]["dataset"]]  # fmt: skip
    rows = copy.read_text("utf-8").splitlines()
    assert len(rows) == 233
    assert sum("Are you <b>open</b>?" in row for row in rows) == 1

    # General rows are mixed into what is prepared.
    page.go_back()
    page.locator("#mix-general").click()
    page.wait_for_url("**/?new=1")
    page.locator('[data-part="sources"] li').nth(1).wait_for()
    sources = form(page)["values"]["data.sources"]
    assert sources == [{"path": copy.name}, {"path": "sample:general", "samples": 62}]


def test_more_rows_are_held_out(report_page, run):
    record = json.loads(run.config.read_text("utf-8"))
    record["dataset"]["rows"] = 240
    run.config.write_text(json.dumps(record), "utf-8")
    page = report_page(too_few())
    page.get_by_role("button", name="Hold out 60 rows next time").click()
    page.wait_for_url("**/?new=1")
    page.wait_for_selector("[data-usable]")
    assert form(page)["values"]["eval_split"] == 0.25
    assert page.locator('[name="eval_split"]').input_value() == "0.25"


def test_a_run_is_evaluated_and_its_evaluation_deleted(servers, home_with_starter, run, opened):
    page = opened(f"{servers(home_with_starter).url}/?run={run.id}")
    page.get_by_role("tab", name="Evaluation").click()
    panel = page.locator("#run-evaluation")
    panel.get_by_text("Not evaluated yet").wait_for()
    prediction = page.locator('[data-part="evaluation-prediction"]')
    prediction.get_by_text("evaluation row").wait_for()
    page.locator("#evaluation-prompts").fill("/no/such/file.jsonl")
    prediction.locator(".wrong").wait_for()
    assert page.locator("#evaluate").get_attribute("aria-disabled") == "true"
    page.locator("#evaluation-prompts").fill("")
    page.wait_for_selector('#evaluate[aria-disabled="false"]')
    page.locator("#evaluate").click()
    panel.get_by_text("Better than the base model.").wait_for()
    assert not panel.get_by_text("Not evaluated yet").is_visible()
    assert page.locator(".brief").get_by_text("better").is_visible()
    page.reload()
    panel.get_by_text("Better than the base model.").wait_for()
    page.locator("#evaluate-again").click()
    assert panel.get_by_role("heading", name="Evaluate again").is_visible()
    page.locator("#evaluation-delete").click()
    page.locator("dialog.ask").get_by_role("button", name="Delete").click()
    panel.get_by_text("Not evaluated yet").wait_for()


def test_samples_are_seen_at_each_step(servers, home_with_starter, run, opened):
    prompts = {"Where is my parcel?": "yours", "A <b>haiku</b>?": "general"}
    texts = {
        0: "I cannot see it.",
        1: "I cannot see it.",
        2: "Which order?",
        3: "Which order, sir?",
    }
    add_samples(run, {
        step: [{"prompt": prompt, "source": source, "text": text, "tokens": 5, "cut": step == 0}
               for prompt, source in prompts.items()]
        for step, text in texts.items()
    })  # fmt: skip
    page = opened(f"{servers(home_with_starter).url}/?run={run.id}&tab=samples")
    newest = page.locator(".say.new:visible .text")
    newest.first.wait_for()
    assert newest.all_inner_texts() == [texts[3]] * 2
    assert page.locator(".say.new:visible mark").first.inner_text() == "order, sir?"
    slider = page.get_by_role("slider", name="Step")
    assert slider.get_attribute("aria-valuetext").startswith("step 3, epoch 1.0, the end")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert newest.all_inner_texts() == [texts[2]] * 2
    page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuetext") == "step 0, before training"
    assert page.get_by_text("same as the base model").first.is_visible()
    assert page.locator("#sample-earlier").get_attribute("aria-disabled") == "true"
    page.get_by_role("button", name="Play").click()
    page.locator("#samples-time", has_text="Answers at step 1").wait_for()
    page.locator("#samples-time", has_text="Answers at step 3").wait_for()
    slider.fill("1")
    assert page.get_by_text("no change").first.is_visible()

    page.get_by_role("button", name="Add a prompt").click()
    page.get_by_role("textbox", name="Add a prompt").fill("Do you\nship to Rome?")
    page.get_by_role("button", name="Save").click()
    listed = page.locator("#next-prompts li")
    listed.first.wait_for()
    assert listed.all_inner_texts() == [*prompts, "Do you ship to Rome?"]
    page.get_by_role("button", name="Edit the prompts of the next run").click()
    page.locator("#prompt-text").fill("One?\n\nTwo?")
    page.get_by_role("button", name="Save").click()
    page.locator("#next-prompts li", has_text="Two?").wait_for()
    values = form(page)["values"]
    assert values["evaluation.sample_prompts"] == "One?\nTwo?"
    assert values["evaluation.samples"] == 2
    for width in (390, 700):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
    page.goto(page.url.split("?")[0] + "?new=1")
    page.wait_for_selector("[data-usable]")
    assert page.locator('[name="evaluation.sample_prompts"]').input_value() == "One?\nTwo?"
