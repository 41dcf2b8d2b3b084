"""From an empty form to a finished run and a chat, with stand-in workers."""

import re
import shutil
import time

import pytest

pytestmark = pytest.mark.browser


@pytest.fixture
def server(servers, home_with_starter):
    return servers(home_with_starter)


def choose_the_captain(page):
    page.get_by_label("The captain").check()
    page.wait_for_selector('#start[aria-disabled="false"]')


def start(page):
    choose_the_captain(page)
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile(r"\?run="))


def until(page, part, pattern, seconds=20):
    deadline = time.monotonic() + seconds
    seen = ""
    while time.monotonic() < deadline:
        seen = page.locator(f'[data-part="{part}"]').first.inner_text()
        if re.search(pattern, seen):
            return seen
        page.wait_for_timeout(50)
    raise AssertionError(f"{part} never showed {pattern}; it showed {seen!r}")


def test_without_data_the_plan_asks_for_it(server, opened):
    page = opened(server.url)
    assert page.locator("#start").get_attribute("aria-disabled") == "true"
    assert page.locator("#why").inner_text() == "Choose your data first."
    choose_the_captain(page)
    plan = page.locator('[data-part="plan"]').inner_text()
    assert "fits" in plan
    assert "GiB" in plan
    assert page.locator("#why").inner_text() == ""


def test_an_invalid_value_is_explained_at_its_field_and_undone(server, opened):
    page = opened(server.url)
    choose_the_captain(page)
    page.get_by_label("LoRA rank", exact=True).fill("9000")
    under = page.locator('[data-error="lora_r"]')
    page.wait_for_function("document.querySelector('[data-error=\"lora_r\"]').textContent")
    assert "256" in under.inner_text()
    assert page.locator("#start").get_attribute("aria-disabled") == "true"
    page.get_by_role("button", name="Undo my change of LoRA rank").click()
    page.wait_for_selector('#start[aria-disabled="false"]')
    assert under.inner_text() == ""
    assert page.get_by_label("LoRA rank", exact=True).input_value() == "16"


def test_a_run_is_followed_reloaded_and_chatted_with(server, opened):
    page = opened(server.url)
    start(page)
    until(page, "run-progress", r"step ([5-9]|\d\d)")
    page.reload()
    until(page, "run-progress", r"step \d+ of \d+")
    until(page, "run-head", "finished")
    assert "The loss fell" in until(page, "run-verdict", "steps in")
    assert page.locator('[data-chart="loss"] canvas').count() == 1
    page.get_by_role("tab", name="Settings").click()
    assert "dataset: sample:captain" in page.locator('[data-part="run-settings"]').inner_text()
    assert not page.locator('[data-chart="loss"]').is_visible()
    page.get_by_role("tab", name="Log").click()
    assert "finished" in page.get_by_role("log", name="Log").inner_text()
    page.get_by_role("link", name="Chat with it").click()
    asked = "What is the capital of France?"
    page.get_by_label("Your message").fill(asked)
    page.get_by_role("button", name="Send").click()
    page.get_by_text("Ahoy! A sailor's guess").wait_for()
    base = page.get_by_text("The capital of France is Paris.", exact=True)
    base.wait_for()
    labels = page.locator(".say > small", has_text="tokens in")
    labels.nth(1).wait_for()
    for label in labels.all():
        box, answer = label.bounding_box(), label.locator("..").bounding_box()
        assert box["height"] < 30, "the label of an answer is one line"
        assert box["width"] > 0.8 * answer["width"]

    # The last answer is made again, and only it.
    page.get_by_label("System prompt", exact=True).fill("Be brief.")
    page.get_by_label("Temperature", exact=True).fill("3")
    again = page.get_by_role("button", name="Regenerate the answer of the tuned model")
    again.click()
    assert page.locator("#temperature:invalid").count() == 1, "nothing is sent"
    page.get_by_label("Temperature", exact=True).fill("0.5")
    with page.expect_request("**/api/chat") as sent:
        again.click()
    body = sent.value.post_data_json
    assert (body["sampling"]["temperature"], body["sampling"]["seed"]) == (0.5, 43)
    system, question = body["sides"][0]["messages"]
    assert (system["content"], question["content"]) == ("Be brief.", asked)
    page.locator(".say:not(.wait) > small", has_text="tokens in").nth(1).wait_for()

    # The conversation survives a reload until a new one is begun.
    page.reload()
    base.wait_for()
    assert page.locator(".asked").all_inner_texts() == [asked]
    assert page.get_by_label("System prompt", exact=True).input_value() == "Be brief."
    assert page.get_by_label("Temperature", exact=True).input_value() == "0.5"
    page.get_by_role("button", name="New chat").click()
    page.reload()
    page.wait_for_selector("[data-usable]")
    assert page.locator(".asked").count() == 0


def test_a_second_tab_shows_the_active_run(servers, home_with_starter, opened):
    url = servers(home_with_starter, pace_s=0.3).url
    start(opened(url))
    second = opened(url)
    assert "?run=" in second.url
    until(second, "run-progress", r"step \d+")
    second.get_by_role("button", name="Stop and keep").click()
    until(second, "run-head", "stopped")


def test_a_page_reconnects_to_a_restarted_server(servers, home_with_starter, opened):
    first = servers(home_with_starter, pace_s=0.4)
    page = opened(first.url)
    start(page)
    until(page, "run-progress", r"step \d")
    port = int(first.url.rsplit(":", 1)[1])
    first.kill()
    page.get_by_text("The server does not respond; trying again.").wait_for()
    servers(home_with_starter, port=port, pace_s=0.4)
    until(page, "run-progress", r"step ([6-9]|\d\d)", seconds=40)


def test_an_uploaded_file_becomes_the_data(server, opened, tmp_path):
    rows = "".join(f'{{"question": "q{n}", "answer": "<b>a{n}</b>"}}\n' for n in range(40))
    file = tmp_path / "mine.jsonl"
    file.write_text(rows, encoding="utf-8")
    page = opened(server.url)
    page.set_input_files("#file", file)
    until(page, "sum-data", "mine.jsonl · 40 rows")
    assert page.locator('[data-part="data"] b').count() == 0
    assert "<b>a1</b>" in page.locator('[data-part="data"]').inner_text()


def test_the_preflight_report_is_saved_as_one_page(server, opened):
    page = opened(server.url)
    choose_the_captain(page)
    with page.expect_download() as waited:
        page.get_by_role("button", name="Save report").click()
    assert waited.value.suggested_filename == "preflight.html"
    saved = waited.value.path().read_text(encoding="utf-8")
    assert "Ready to train." in saved
    assert saved.count("<section>") > 6
    assert "<script" not in saved


def test_an_unreadable_file_is_refused(server, opened, tmp_path):
    file = tmp_path / "report.jsonl"
    file.write_bytes(b"%PDF-1.7 nothing of this is a row")
    page = opened(server.url)
    page.set_input_files("#file", file)
    page.locator(".toast.bad").wait_for()
    assert "PDF" in page.locator(".toast.bad").inner_text()
    assert "Traceback" not in page.content()
    assert not list((server.home / "uploads").glob("*.jsonl"))


def test_the_theme_is_remembered(server, opened):
    page = opened(server.url)
    page.get_by_role("button", name="Dark or light").click()
    assert page.evaluate("document.documentElement.className") == "dark"
    page.goto(f"{server.url}/runs")
    page.wait_for_selector("[data-usable]")
    assert page.evaluate("document.documentElement.className") == "dark"
    assert page.evaluate("document.body.classList.contains('dark')")


def test_without_a_starter_model_the_page_explains_it(servers, home_with_starter, opened):
    shutil.rmtree(home_with_starter / "models")
    page = opened(servers(home_with_starter).url)
    page.get_by_label("The captain").check()
    until(page, "why", "starter")
