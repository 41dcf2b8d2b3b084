"""An opened recipe with wrong keys and values: all are named, the rest is in force."""

import yaml

from ui.pages.train import response
from ui.pages.train.form import Entered

RECIPE = {"lora_rank": 16, "learning_rate": "fast", "lora_alpha": 48, "adapter": {"enabld": True}}


def reply_to(forge, recipe, **values):
    return response.reply(forge, Entered(show_models=False, recipe=recipe, values=values))


def test_every_wrong_key_and_value_of_a_recipe_is_named_with_its_fixes(forge):
    reply = reply_to(forge, RECIPE, dataset="sample:captain")
    part = reply.parts["recipe-wrong"]
    assert "<code>lora_rank: 16</code> is not a setting." in part
    assert "The nearest is LoRA rank (<code>lora_r</code>)." in part
    assert ">Use lora_r<" in part
    assert ">Use adapter.enabled<" in part
    assert "Learning rate: &#39;fast&#39; is not a number." in part
    assert part.count(">Leave it out<") == 3
    assert ">Leave all out<" in part
    assert ">Remove the recipe<" in part
    assert "fast" in reply.errors["learning_rate"]
    # They are not listed a second time.
    assert "lora_rank" not in reply.parts["problems"]
    assert "lora_rank" in reply.parts["why"]
    assert reply.cards["settings"] == "wrong"
    # The rest of the recipe is taken.
    assert reply.values["lora_alpha"] == "48"


def test_the_recipe_tab_shows_the_settings_in_force_and_what_is_not_used(forge):
    text = reply_to(forge, RECIPE, dataset="sample:captain").parts["recipe"]
    shown = yaml.safe_load(text)
    assert shown["lora_alpha"] == 48
    assert shown["dataset"] == "sample:captain"
    assert not {"lora_rank", "learning_rate"} & shown.keys()
    assert "# Not used: lora_rank is not a setting" in text
    assert "# Missing" not in text


def test_the_recipe_tab_names_what_is_missing(forge):
    text = reply_to(forge, {}).parts["recipe"]
    assert text.startswith("# Missing: Dataset")
    assert "lora_r:" in text


def test_another_value_of_the_user_replaces_the_wrong_one(forge):
    reply = reply_to(forge, {"learning_rate": "fast"}, learning_rate="1e-4")
    assert reply.parts["recipe-wrong"] == ""
    assert "learning_rate" not in reply.errors


def test_text_of_a_recipe_is_not_html(forge):
    reply = reply_to(forge, {"<img src=x>": "<script>"})
    assert "<img" not in reply.parts["recipe-wrong"]
    assert "<script" not in reply.parts["recipe-wrong"]


def test_a_wrong_value_is_shown_at_the_control_that_writes_it(forge):
    reply = reply_to(forge, {"use_8bit": "perhaps"})
    assert 'data-action="show-setting" data-setting="use_8bit"' in reply.parts["recipe-wrong"]


def test_the_reason_not_to_start_leads_to_its_setting(forge):
    reply = reply_to(forge, {}, dataset="sample:captain")
    assert 'data-action="show-setting" data-setting="model_name"' in reply.parts["why"]
    assert "starter model is not set up" in reply.parts["why"]
    assert "show-setting" not in reply_to(forge, {}).parts["why"]


def test_a_wrong_value_without_a_field_can_be_left_out(forge):
    part = reply_to(forge, {"data": {"sources": 5}}).parts["recipe-wrong"]
    assert "show-setting" not in part
    assert ">Leave it out<" in part
