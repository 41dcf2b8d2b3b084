"""What guides through the Train page: welcome, search, reset, undo, the bar of a narrow window."""

import re
import time

import pytest

from tests.browser.test_queue import settled
from tests.browser.test_train import choose_the_captain, start

pytestmark = pytest.mark.browser

DROP = """(text) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([text], "mine.jsonl", { type: "application/json" }));
  const event = (kind) =>
    new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
  const place = document.querySelector("#card-settings .name");
  return ["dragover", "drop"].map((kind) => place.dispatchEvent(event(kind)));
}"""


def test_the_form_is_searched_reset_and_undone(servers, home_with_starter, opened):
    page = opened(servers(home_with_starter).url)
    heading = page.get_by_role("heading", name="Teach a language model something of your own")
    heading.wait_for()
    assert "With a sample it takes" in page.locator(".intro").inner_text()

    page.get_by_label("Short or rambling").check()
    note = page.locator(".toast", has_text="The method is now DPO")
    page.locator('[data-part="sum-task"]', has_text="DPO").wait_for()
    assert not heading.is_visible()
    note.get_by_role("button", name="Undo").click()
    page.locator('[data-part="sum-task"]', has_text="SFT").wait_for()
    heading.wait_for()

    choose_the_captain(page)
    search = page.get_by_role("searchbox", name="Search settings")
    search.fill("warm")
    page.get_by_label("LoRA rank", exact=True).wait_for(state="hidden")
    labels = page.locator("#settings-basic label:visible").all_inner_texts()
    # Choices and help are searched too: some schedules have a warm-up.
    steps = ["Warm-up steps", "Decay steps"]
    assert labels == ["Learning rate schedule", "Warm-up ratio", *steps]
    search.fill("no such setting")
    page.get_by_text("No setting matches.").wait_for()
    search.fill("")

    rank = page.get_by_label("LoRA rank", exact=True)
    usual = rank.input_value()
    rank.fill("40")
    page.get_by_role("button", name="Reset", exact=True).click()
    heading.wait_for()
    assert rank.input_value() == usual
    page.locator(".toast", has_text="discarded").get_by_role("button", name="Undo").click()
    page.wait_for_selector('#start[aria-disabled="false"]')
    assert rank.input_value() == "40"

    # A dropped file is taken anywhere; the browser does not open it.
    assert page.evaluate(DROP, '{"prompt": "Oak?", "completion": "A tree."}\n' * 12) == [
        False,
        False,
    ]
    page.locator('[data-part="sum-data"]', has_text="12 rows").wait_for()


INSIDE = """(nodes) => nodes.every((node) => {
  const box = node.getBoundingClientRect();
  return box.width > 0 && box.left >= 0 && box.right <= innerWidth && box.top >= 0
    && box.bottom <= innerHeight;
})"""
SIDEWAYS = "() => document.documentElement.scrollWidth > innerWidth"


def test_a_caution_is_shown_whole_beside_the_form(servers, home_with_starter, opened):
    page = opened(servers(home_with_starter).url)
    choose_the_captain(page)
    page.get_by_label("Learning rate", exact=True).fill("5e-2")
    box = page.locator("#cautions .box")
    box.get_by_role("button", name=re.compile("^Use 5e-4")).wait_for()
    page.evaluate("scrollTo(0, 0)")
    assert page.locator("#cautions .box, #cautions .box *, #start").evaluate_all(INSIDE)


def test_a_narrow_window_shows_the_caution_and_starts(servers, home_with_starter, opened):
    page = opened(servers(home_with_starter).url)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.locator(".nav a").evaluate_all(INSIDE)
    page.get_by_label("The captain").check()
    page.wait_for_selector('#dock-start[aria-disabled="false"]')
    page.locator(".dock.for-form").get_by_text("fits").wait_for()
    page.get_by_label("Learning rate", exact=True).fill("5e-2")
    cautions = page.get_by_role("button", name="1 caution")
    cautions.click()
    box = page.locator("#cautions .box")
    assert "times above the usual" in box.inner_text()
    top, bottom = box.evaluate(
        "box => [box.getBoundingClientRect().top, box.getBoundingClientRect().bottom]"
    )
    assert 0 <= top < bottom <= page.locator(".dock.for-form").bounding_box()["y"]
    box.get_by_role("button", name=re.compile("^Keep 5e-2")).click()
    cautions.wait_for(state="hidden")
    page.get_by_role("button", name="Show", exact=True).click()
    cautions.wait_for()
    box.get_by_role("button", name=re.compile("^Use 5e-4")).click()
    cautions.wait_for(state="hidden")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile(r"\?run="))
    for width in (390, 700):
        page.set_viewport_size({"width": width, "height": 844})
        for text in ("As planned", "Planned memory", "You can close this page."):
            page.locator('[data-part="run-side"]').get_by_text(text).wait_for()
        assert not page.evaluate(SIDEWAYS)


def test_the_next_run_is_prepared_while_one_trains(servers, home_with_starter, opened):
    server = servers(home_with_starter, pace_s=0.5)
    page = opened(server.url)
    start(page)
    page.get_by_role("link", name="Prepare the next run").click()
    bar = page.locator('[data-part="in-progress"]')
    bar.get_by_text(
        re.compile("The captain · starter is training.*this run will start next")
    ).wait_for()
    page.get_by_label("The support desk").check()
    page.wait_for_selector('#start[aria-disabled="false"]')
    page.get_by_role("button", name="Start next").click()
    page.get_by_text("“The support desk · starter” is number 1 in the queue.").wait_for()
    bar.get_by_text("1 queued run will start before this one").wait_for()
    bar.get_by_role("link", name="Show run").click()
    page.wait_for_url(re.compile(r"\?run="))
    queue = page.locator('[data-part="run-queue"]')
    queue.get_by_role("heading", name="Next in the queue").wait_for()
    assert "The support desk · starter" in queue.inner_text()

    for path, title in (("runs", "Runs"), ("chat", "Chat"), ("machine", "Machine")):
        page.goto(f"{server.url}/{path}")
        page.wait_for_selector("[data-usable]")
        assert page.title() == f"{title} · ModelForge"
        if path == "chat":
            note = page.locator('[data-part="chat-busy"]')
            note.get_by_text("A question is kept and answered when it is free.").wait_for()
    page.goto(f"{server.url}/runs")
    settled(page, ["The support desk · starter"])
    page.get_by_role("link", name="New run").click()
    page.get_by_role("button", name=re.compile("Start")).first.wait_for()
    page.goto(f"{server.url}/nosuchpage")
    page.get_by_role("link", name="Show runs").click()
    page.wait_for_selector(".waiting-run")


RECORD = """() => {
  window.shown = [];
  window.Notification = class {
    static permission = "granted";
    static requestPermission() { return Promise.resolve("granted"); }
    constructor(text) { window.shown.push(text); }
    close() {}
  };
}"""
HIDE = """() => {
  Object.defineProperty(document, "hidden", { get: () => true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_hidden_tab_reports_the_end_of_its_run(servers, home_with_starter, opened):
    server = servers(home_with_starter, pace_s=0.1)
    page = opened(server.url)
    page.clock.install()
    page.reload()
    page.wait_for_selector("[data-usable]")
    page.evaluate(RECORD)
    start(page)
    page.wait_for_selector("#next-run")
    page.evaluate(HIDE)
    run = page.url.split("run=")[1]
    deadline = time.monotonic() + 60
    while page.request.get(f"{server.url}/api/runs/{run}").json()["state"] != "finished":
        assert time.monotonic() < deadline, "the run never finished"
        time.sleep(0.2)
    assert page.evaluate("window.shown") == []
    page.clock.fast_forward(16_000)
    page.wait_for_function("window.shown.length > 0")
    assert page.evaluate("window.shown") == ["The captain · starter has finished"]
