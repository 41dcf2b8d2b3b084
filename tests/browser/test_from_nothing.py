"""Start from nothing: turn the dial, start, look at the run, and teach the new model to chat."""

import re

import pytest

pytestmark = pytest.mark.browser

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
    assert "words of step 6" in part(page, "run-writes").inner_text()
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
