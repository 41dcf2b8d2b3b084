"""A recipe with wrong keys and values is opened on the Train page and fixed there."""

import pytest

pytestmark = pytest.mark.browser

RECIPE = """\
dataset: sample:captain
lora_rank: 16
learning_rate: fast
lora_alpha: 48
colour: red
"""


@pytest.fixture
def server(servers, home_with_starter):
    return servers(home_with_starter)


def open_recipe(page, text, name="mine.yaml"):
    page.get_by_role("tab", name="Recipe").click()
    page.locator("#recipe-file").set_input_files(
        {"name": name, "mimeType": "text/yaml", "buffer": text.encode()}
    )


def test_a_recipe_with_wrong_keys_is_fixed_with_clicks(server, opened):
    page = opened(server.url)
    open_recipe(page, RECIPE)
    wrong = page.locator("#recipe-wrong")
    wrong.get_by_text("lora_rank: 16").wait_for()
    assert wrong.get_by_text("colour: 'red'").is_visible()
    assert page.locator("#start").get_attribute("aria-disabled") == "true"
    assert "lora_alpha: 48" in page.locator('[data-part="recipe"]').inner_text()
    wrong.get_by_role("button", name="Use lora_r: lora_rank").click()
    wrong.get_by_text("lora_rank").wait_for(state="detached")
    wrong.get_by_role("button", name="Leave it out: colour").click()
    wrong.get_by_text("colour").wait_for(state="detached")
    wrong.get_by_role("button", name="Show it").click()
    rate = page.locator("#f-learning_rate")
    assert rate.evaluate("field => field === document.activeElement")
    rate.fill("2e-4")
    page.wait_for_selector('#start[aria-disabled="false"]')
    assert wrong.inner_text() == ""
    assert page.locator("#f-lora_r").input_value() == "16"
    assert page.locator("#f-lora_alpha").input_value() == "48"


def test_a_recipe_without_data_keeps_the_chosen_data(server, opened):
    page = opened(server.url)
    page.get_by_label("The captain").check()
    page.wait_for_selector('#start[aria-disabled="false"]')
    open_recipe(page, "num_train_epochs: 2\n")
    page.wait_for_function("document.querySelector('#f-num_train_epochs').value === '2'")
    page.wait_for_selector('#start[aria-disabled="false"]')
    assert page.get_by_label("The captain").is_checked()


def test_a_wrong_recipe_is_removed_or_reset(server, opened):
    page = opened(server.url)
    for button in ("Remove the recipe", "Reset"):
        open_recipe(page, RECIPE)
        page.locator("#recipe-wrong", has_text="lora_rank").wait_for()
        page.get_by_role("button", name=button, exact=True).click()
        page.locator("#why", has_text="Choose your data first.").wait_for()
    page.get_by_label("The captain").check()
    page.wait_for_selector('#start[aria-disabled="false"]')


def test_errors_stay_at_what_caused_them_until_the_next_try(server, opened):
    page = opened(server.url)
    open_recipe(page, "lora_r: [16\n")
    below = page.locator('[data-failed="recipe"]')
    below.get_by_text("mine.yaml, line").or_(below.get_by_text("cannot be read")).first.wait_for()
    # Not a value that the form may have already.
    open_recipe(page, "lora_r: 24\n")
    page.wait_for_function("document.querySelector('#f-lora_r').value === '24'")
    assert below.inner_text() == ""
    page.locator("#file").set_input_files(
        {"name": "photo.csv", "mimeType": "text/csv", "buffer": bytes(range(256)) * 40}
    )
    page.locator('[data-failed="upload"]', has_text="photo.csv is not a text file.").wait_for()
