"""The Runs, Compare and Machine pages in a browser."""

import re

import pytest

from tests.runs.homes import put_run

pytestmark = pytest.mark.browser


@pytest.fixture
def home(tmp_path):
    root = tmp_path / "home"
    for number, name in enumerate(("first", "second", "third")):
        put_run(root, number, name=name, held=[2.0, 1.5], lora_r=8 * (number + 1),
                checkpoints=[3])  # fmt: skip
    put_run(root, 9, name="<img src=x onerror=alert(1)>", ending="failed")
    return root


@pytest.fixture
def url(servers, home):
    return servers(home).url


def test_runs_are_selected_and_compared(url, opened):
    page = opened(f"{url}/runs")
    page.get_by_label("Select first").check()
    assert page.locator('[data-action="compare"]').get_attribute("aria-disabled") == "true"
    page.get_by_label("Select third").check()
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url(re.compile(r"/compare\?runs="))
    table = page.locator("section", has=page.get_by_text("Different settings")).locator("tbody")
    table.wait_for()
    assert "LoRA rank" in table.inner_text()
    assert table.locator("td").all_inner_texts() == ["8", "24"]
    chart = page.locator('[data-chart="loss-training"]')
    chart.locator("canvas").wait_for()
    assert chart.locator(".key").count() == 2
    assert "identical (same SHA-256)" in page.locator('[data-part="compared"]').inner_text()
    page.get_by_role("button", name="Tokens", exact=True).click()
    page.locator('#axis-tokens[aria-pressed="true"]').wait_for()  # redrawn by the reply
    chart.locator(".chart-area").focus()
    page.keyboard.press("End")
    page.wait_for_function(
        "document.querySelector('[data-chart=\"loss-training\"] output')"
        ".textContent.startsWith('tokens')"
    )
    with page.expect_download() as saved:
        page.get_by_role("link", name="Page (HTML)").click()
    report = saved.value.path().read_text(encoding="utf-8")
    assert "LoRA rank" in report
    assert "<script" not in report


def test_a_run_is_found_and_annotated(url, opened):
    page = opened(f"{url}/runs")
    # Names of runs are text, never markup.
    assert page.locator(".runrow img").count() == 0
    page.get_by_label("Search runs").fill("second")
    page.wait_for_function("document.querySelectorAll('.runrow').length === 1")
    page.get_by_label("More for second").click()
    page.get_by_role("button", name="Name, tags and note: second").click()
    page.locator("#details-tags").fill("keep, good")
    page.locator("#details-note").fill("The second was the best.")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("The second was the best.").wait_for()
    page.get_by_label("Search runs").fill("")
    page.get_by_role("button", name="#keep 1").click()
    page.wait_for_function("document.querySelectorAll('.runrow').length === 1")
    assert "second" in page.locator(".runrow").inner_text()
    page.reload()
    page.wait_for_selector("[data-usable]")
    assert "/runs?tag=keep" in page.url
    assert page.locator(".runrow").count() == 1
    page.get_by_role("button", name=re.compile(r"^Failed")).click()
    page.get_by_text("No run matches").wait_for()
    page.get_by_role("button", name="Show all").click()
    page.get_by_text("Memory ran out.").wait_for()


def test_selected_runs_are_tagged_deleted_and_restored(url, opened, home):
    page = opened(f"{url}/runs")
    page.get_by_label("Select first").check()
    page.get_by_label("Select second").check()
    page.get_by_role("button", name="Tag", exact=True).click()
    page.get_by_label("Tags, separated by commas").fill("old")
    page.get_by_role("button", name="Add tags").click()
    page.get_by_role("button", name="#old 2").wait_for()
    page.locator("#selection").get_by_role("button", name="Delete").click()
    page.get_by_text("2 runs deleted.").wait_for()
    page.wait_for_function("document.querySelectorAll('.runrow').length === 2")
    page.get_by_role("button", name="Undo").click()
    page.wait_for_function("document.querySelectorAll('.runrow').length === 4")
    page.get_by_label("More for third").click()
    page.get_by_role("button", name="Delete: third").click()
    page.get_by_text("“third” deleted.").wait_for()
    page.goto(f"{url}/machine")
    card = page.locator("#storage")
    card.get_by_role("button", name="Empty: Recently deleted (1 run)").click()
    page.get_by_role("dialog").get_by_role("button", name="Empty").click()
    card.get_by_text("Recently deleted").first.wait_for(state="detached")
    assert not list(home.glob("runs/.deleted/*"))


def test_checkpoints_of_finished_runs_are_deleted(url, opened, home):
    page = opened(f"{url}/machine")
    card = page.locator("#storage")
    card.get_by_text("Checkpoints of finished runs (3 runs)").wait_for()
    card.get_by_role("button", name="Free: Checkpoints of finished runs (3 runs)").click()
    dialog = page.get_by_role("dialog")
    assert "Checkpoints of finished runs (3 runs)" in dialog.inner_text()
    dialog.get_by_role("button", name="Free", exact=True).click()
    page.locator(".toast").get_by_text("freed").wait_for()
    card.get_by_text("Checkpoints of finished runs").wait_for(state="detached")
    assert not list(home.glob("runs/*/checkpoints"))
    assert len(list(home.glob("runs/*/output/adapter_model.safetensors"))) == 3


def test_stored_files_are_selected_and_deleted(url, opened, home):
    (home / "uploads").mkdir()
    for name in ("mine.jsonl", "other.jsonl"):
        (home / "uploads" / name).write_text('{"input": "q", "output": "a"}\n')
    page = opened(f"{url}/machine")
    card = page.locator("#stored")
    card.get_by_label("Select mine.jsonl").check()
    card.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    assert "No run uses it." in dialog.inner_text()
    dialog.get_by_role("button", name="Delete").click()
    card.get_by_label("Select mine.jsonl").wait_for(state="detached")
    assert [path.name for path in home.glob("uploads/*")] == ["other.jsonl"]
