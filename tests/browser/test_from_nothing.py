"""Start from nothing: turn the dial, start, look at the run, and teach the new model to chat."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

PROBLEMS = Path(__file__).with_name("accessibility.js").read_text("utf-8")
SENTENCE = "The miller walked to the river and counted the stones that lay in the cold water. "


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join(SENTENCE * 40 for _ in range(60)), "utf-8")
    return str(file)


@pytest.fixture
def server(servers, home_with_starter):
    return servers(home_with_starter)


def part(page, name):
    return page.locator(f'[data-part="{name}"]').first


def turn(page, depth):
    page.locator("#dial").evaluate(
        "(dial, depth) => { dial.value = depth; "
        "dial.dispatchEvent(new Event('input', { bubbles: true })); }",
        str(depth),
    )


def prepared(page, text, depth=2, steps=6):
    page.locator("#text-dataset").fill(text)
    turn(page, depth)
    page.locator("#text-max_steps").fill(str(steps))
    page.wait_for_selector('#start[aria-disabled="false"]')


def test_the_dial_says_what_a_depth_means(server, opened, text):
    page = opened(f"{server.url}/?from=nothing")
    assert page.get_by_role("heading", name="Start from nothing").is_visible()
    assert not page.locator("#card-model").is_visible()
    page.locator("#text-dataset").fill(text)
    turn(page, 4)
    assert part(page, "dial-depth").inner_text() == "4"
    page.wait_for_function(
        "document.querySelector('[data-part=\"sum-shape\"]').textContent.includes('4 layers')"
    )
    first = part(page, "dial-numbers").inner_text()
    page.locator(".dial-chart .pt").wait_for()
    turn(page, 8)
    page.wait_for_function(
        "document.querySelector('[data-part=\"sum-shape\"]').textContent.includes('8 layers')"
    )
    assert part(page, "dial-numbers").inner_text() != first
    assert page.locator("#f-pretraining\\.depth").input_value() == "8"
    page.locator("#vocab-4096").check()
    page.wait_for_function(
        "document.querySelector('[data-part=\"sum-tokenizer\"]').textContent.includes('4k')"
    )


def test_a_new_model_is_trained_and_then_taught_to_chat(server, opened, text):
    page = opened(f"{server.url}/?from=nothing")
    prepared(page, text)
    page.get_by_role("button", name="Start training").first.click()
    page.wait_for_url(re.compile(r"\?run="))
    page.get_by_role("button", name="Teach it to chat").wait_for()
    assert "Llama shape, 2 layers" in part(page, "run-head").inner_text()
    assert "FLOPs" in part(page, "run-side").inner_text()
    assert "words of step 6" in part(page, "run-writes").inner_text()
    # Bits per byte come first, then what it writes, then the other charts.
    tops = [
        page.locator(selector).bounding_box()["y"]
        for selector in ("#card-stage-1-metric-0", "[data-part=run-writes]", "#card-loss")
    ]
    assert tops == sorted(set(tops))
    assert page.evaluate(PROBLEMS) == []
    assert "95 % interval 0.100 to 0.150" in part(page, "run-core").inner_text()
    assert "Bits per byte" in part(page, "run-numbers").inner_text()
    page.get_by_role("button", name="Teach it to chat").click()
    page.wait_for_selector("[data-usable]")
    assert page.locator("#card-model").is_visible()
    assert page.locator("#text-model_name").input_value().endswith("output")
    assert page.get_by_label("General").first.is_checked()


def test_the_form_for_fine_tuning_is_kept_beside_it(server, opened, text):
    page = opened(server.url)
    page.locator("#f-lora_r").fill("24")
    page.get_by_role("link", name=re.compile("start from nothing", re.IGNORECASE)).first.click()
    page.locator("#card-dial").wait_for()
    assert page.url.endswith("?from=nothing")
    turn(page, 3)
    page.get_by_role("button", name="Fine-tune an existing model instead").click()
    page.locator("#card-dial").wait_for(state="hidden")
    assert page.locator("#f-lora_r").input_value() == "24"
    page.get_by_role("link", name=re.compile("start from nothing", re.IGNORECASE)).first.click()
    page.wait_for_function(
        "document.querySelector('[data-part=\"dial-depth\"]').textContent == '3'"
    )


def test_one_without_text_takes_some_that_is_at_hand(server, opened):
    page = opened(server.url)
    page.get_by_role("link", name="start from nothing").first.click()
    page.locator("#card-dial").wait_for()
    assert "–" not in part(page, "dial-numbers").inner_text()
    page.locator(".dial-chart .pt").wait_for()
    assert page.locator("#start").get_attribute("aria-disabled") == "true"
    page.get_by_role("button", name="Use the documentation of Python").click()
    page.locator("#remove-source-0").wait_for()
    assert "100 %" in part(page, "sources").inner_text()
    page.wait_for_selector('#start[aria-disabled="false"]')
    page.locator("#remove-source-0").click()
    page.wait_for_selector('#start[aria-disabled="true"]')
    assert page.locator("#no-text").get_attribute("open") is not None


def test_files_and_pasted_text_are_added_to_the_text(server, opened, tmp_path):
    page = opened(f"{server.url}/?from=nothing")
    first, second = tmp_path / "first.txt", tmp_path / "second.md"
    for file in (first, second):
        file.write_text("\n\n".join(SENTENCE * 40 for _ in range(30)), "utf-8")
    page.set_input_files("#file", str(first))
    page.locator("#remove-source-0").wait_for()
    page.set_input_files("#file", str(second))
    page.locator("#remove-source-1").wait_for()
    page.evaluate(
        """text => {
          const clipboardData = new DataTransfer(), bubbles = true;
          clipboardData.setData("text/plain", text);
          document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles }));
        }""",
        SENTENCE * 200,
    )
    page.locator("#remove-source-2").wait_for()
    names = part(page, "sources").inner_text()
    assert all(name in names for name in ("first.txt", "second.md", "pasted.txt")), names


def test_a_measure_rules_and_a_vocabulary_is_chosen(server, opened, text):
    page = opened(f"{server.url}/?from=nothing")
    prepared(page, text, steps=6)
    assert part(page, "rules-steps").inner_text() == "this one rules"
    assert part(page, "rules-ratio").inner_text() == "overruled"
    assert page.locator("#text-pretraining\\.target_flops").get_attribute("placeholder") != ""
    page.locator("#text-max_steps").fill("")
    page.wait_for_function(
        "document.querySelector('[data-part=\"rules-ratio\"]').textContent === 'this one rules'"
    )
    assert re.fullmatch(r"[\d,]+", page.locator("#text-max_steps").get_attribute("placeholder"))
    # A borrowed tokenizer is chosen like a vocabulary.
    page.locator("#vocab-starter").check()
    page.wait_for_function(
        "document.querySelector('[data-part=\"sum-tokenizer\"]').textContent.includes('borrowed')"
    )
    assert page.locator("#vocab-starter").is_checked()
    page.locator("#vocab-16384").check()
    page.wait_for_function(
        "document.querySelector('[data-part=\"sum-tokenizer\"]').textContent.includes('16k')"
    )


def test_core_is_switched_on_and_the_command_copied_from_the_plan(server, opened, text):
    page = opened(f"{server.url}/?from=nothing")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    prepared(page, text)
    page.locator("#copy-as summary").click()
    page.get_by_role("button", name="ModelForge command").click()
    page.locator(".toast").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").startswith("modelforge pretrain ")
    page.locator("#copy-as summary").click()
    page.get_by_role("button", name="nanochat command").click()
    ask = page.get_by_role("dialog", name="Export settings")
    assert ask.get_by_label("Write them for").input_value() == "nanochat"
    ask.get_by_role("button", name="Copy").click()
    page.wait_for_function(
        "navigator.clipboard.readText().then(text => text.includes('scripts.base_train'))"
    )
    ask.get_by_role("button", name="Cancel").click()
    page.locator("#core-on").click()
    field = page.locator("#f-evaluation\\.core_bundle")
    assert field.is_visible()
    assert field.evaluate("field => field === document.activeElement")
    field.fill("/nowhere/core")
    page.locator("[data-error='evaluation.core_bundle']:not(:empty)").wait_for()
    assert "core.yaml" in page.locator("[data-error='evaluation.core_bundle']").inner_text()


def test_a_wrong_value_is_said_at_its_field(server, opened, text):
    page = opened(f"{server.url}/?from=nothing")
    prepared(page, text)
    for name, value, shown, good in (
        ("max_steps", "many", "not a number", "6"),
        ("pretraining.tokenizer", "no/one", "on this computer", ""),
        ("dataset", "/nowhere/text.txt", "does not exist", text),
    ):
        field = page.locator(f'[id="text-{name}"]')
        field.fill(value)
        error = page.locator(f'[id="text-{name}-error"]:not(:empty)')
        error.wait_for()
        assert shown in error.inner_text()
        assert page.locator("#start").get_attribute("aria-disabled") == "true"
        assert "Model: " not in page.locator("#why").inner_text()
        field.fill(good)
        page.wait_for_selector('#start[aria-disabled="false"]')


def test_nothing_is_wider_than_the_window(server, opened, text):
    page = opened(f"{server.url}/?from=nothing")
    prepared(page, text)
    page.locator(".dial-chart .pt").wait_for()
    for width in (1280, 700, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
