"""Resuming and continuing a run in the browser, with stand-in workers."""

import json
import re
import time

import pytest

from modelforge.runs import checkpoints
from tests.runs.homes import put_run

pytestmark = pytest.mark.browser


def until(page, part, pattern, seconds=30):
    deadline = time.monotonic() + seconds
    seen = ""
    while time.monotonic() < deadline:
        seen = page.locator(f'[data-part="{part}"]').first.inner_text()
        if found := re.search(pattern, seen):
            return found
        page.wait_for_timeout(50)
    raise AssertionError(f"{part} never showed {pattern}; it showed {seen!r}")


def test_a_stopped_run_is_resumed_and_then_continued_in_a_new_one(
    servers, home_with_starter, opened
):
    server = servers(home_with_starter, pace_s=0.08)
    page = opened(server.url)
    page.get_by_label("The captain").check()
    page.wait_for_selector('#start[aria-disabled="false"]')
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile(r"\?run="))
    run = page.url
    until(page, "run-progress", r"step ([3-9]|\d\d)")
    page.get_by_role("button", name="Stop and keep").click()
    until(page, "run-head", "stopped")
    label = until(page, "run-side", r"Resume from step (\d+)")
    page.get_by_role("button", name=label[0]).click()
    # The page shows the same run, which resumes where it was stopped.
    until(page, "run-side", "Stop and keep")
    assert page.url == run
    seen = until(page, "run-progress", r"step (\d+) of")
    assert int(seen[1]) >= int(label[1])
    page.get_by_role("button", name="Stop and keep").click()
    until(page, "run-head", "stopped")

    page.get_by_role("button", name="Train longer").click()
    asked = page.get_by_role("dialog")
    assert "learning rate" in asked.inner_text()
    asked.get_by_label("Additional").fill("9")
    asked.get_by_role("button", name="Start").click()
    page.wait_for_url(lambda url: "?run=" in url and url != run)
    page.wait_for_selector("[data-usable]")
    until(page, "run-head", "continued")
    longer = page.url

    # While it is active the first run can only wait in the queue, and starts by itself.
    page = opened(run)
    page.get_by_role("button", name=re.compile("Resume from step")).click()
    asked = page.get_by_role("dialog")
    assert "This computer is in use" in asked.inner_text()
    asked.get_by_role("button", name="Add to queue").click()
    page.wait_for_url(re.compile("/runs$"))
    until(page, "queue", "1 run waiting")
    page = opened(longer)
    page.get_by_role("button", name="Stop and keep").click()
    until(page, "run-head", "stopped")
    page = opened(run)
    until(page, "run-side", "Stop and keep")
    page.get_by_role("button", name="Stop and keep").click()
    until(page, "run-head", "stopped")


def test_an_earlier_checkpoint_is_chosen(servers, home_with_starter, opened):
    folder = put_run(home_with_starter, ending="failed", losses=[2.0] * 6, result=False)
    for step in (2, 4):
        made = folder.checkpoints / f"checkpoint-{step}"
        made.mkdir(parents=True)
        (made / "trainer_state.json").write_text("{}", "utf-8")
        checkpoints.write_manifest(made, step=step, stage=None)
    page = opened(f"{servers(home_with_starter, pace_s=0.3).url}/?run={folder.id}")
    page.get_by_role("button", name="Resume from step 4").wait_for()
    page.locator("#resume-step").select_option("2")
    with page.expect_request("**/resume") as sent:
        page.get_by_role("button", name="Resume from step 2").click()
    assert sent.value.post_data_json == {"step": 2}
    until(page, "run-side", "Stop and keep")
    kept = [place.name for place in folder.checkpoints.iterdir()]
    assert "checkpoint-2" in kept
    assert "checkpoint-4" not in kept


def test_only_the_next_run_starts_from_an_adapter(servers, home_with_starter, opened):
    run = put_run(home_with_starter, name="tuned")
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "starter", "r": 16}
    adapter |= {"lora_alpha": 32, "use_rslora": False, "use_dora": False}
    (run.output / "adapter_config.json").write_text(json.dumps(adapter), "utf-8")
    page = opened(f"{servers(home_with_starter, pace_s=0.3).url}/?run={run.id}")
    page.get_by_role("button", name="New run from its adapter").click()
    until(page, "sum-task", "from an adapter")
    page.wait_for_selector('#start[aria-disabled="false"]')
    page.get_by_role("button", name="Start training").click()
    page.wait_for_selector("#next-run")
    page.locator("#next-run").click()
    page.get_by_role("button", name="Start next").wait_for()
    assert "adapter" not in page.locator('[data-part="sum-task"]').inner_text()
