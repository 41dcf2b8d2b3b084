"""The reply to a change of the form, with settings that came from a recipe."""

from modelforge.cli.output import print_check
from modelforge.config.resolve import resolve
from ui.pages.train import response
from ui.pages.train.form import Entered

DATA = {"dataset": "sample:captain", "model_name": "starter"}


def recipe_of(forge, **values):
    stack = forge.layers.stack(Entered(values=DATA | values))
    return resolve(*stack.layers).config.explicit_values()


def test_a_recipe_gives_way_to_another_method_and_the_page_says_so(forge):
    recipe = recipe_of(forge, strategy="sft")
    reply = response.reply(
        forge, Entered(show_models=False, recipe=recipe, values={"strategy": "dpo"})
    )
    note = reply.parts["overridden"]
    assert "settings of the recipe do not apply to DPO: " in note
    assert "Learning rate" in note
    assert "Padding-free" in note
    assert 'data-action="reset" data-setting="strategy"' in note
    assert reply.values["learning_rate"] != str(recipe["learning_rate"])
    assert reply.origins["learning_rate"] == "recommended for dpo"
    # No setting is wrong; header and data line follow the choice.
    assert reply.errors.keys() <= {"model_name"}  # no starter model in this home
    assert reply.parts["sum-task"] == "Chat and text · preferences (DPO) with LoRA"
    assert "not chosen yet" not in reply.parts["sum-data"]
    assert "captain" in reply.parts["sum-data"].lower()


def test_a_recipe_for_lora_can_become_qlora(forge):
    recipe = recipe_of(forge, strategy="sft", use_4bit="false")
    reply = response.reply(
        forge, Entered(show_models=False, recipe=recipe, values={"strategy": "qlora"})
    )
    assert reply.values["use_4bit"] == "true"
    assert "do not apply to QLoRA" in reply.parts["overridden"]
    assert not {"use_4bit", "strategy"} & reply.errors.keys()


def test_other_values_of_the_user_are_named_without_a_button(forge):
    recipe = recipe_of(forge, strategy="sft", **{"quantization.scheme": "bnb-8bit"})
    reply = response.reply(
        forge, Entered(show_models=False, recipe=recipe, values={"adapter.enabled": "false"})
    )
    assert "of the recipe do not apply to your own values" in reply.parts["overridden"]
    assert "data-action" not in reply.parts["overridden"]
    assert "adapter.enabled" not in reply.errors


def test_a_recipe_that_is_used_as_it_is_has_no_note(forge):
    recipe = recipe_of(forge, strategy="sft")
    for values in ({}, {"strategy": "sft"}, {"lora_r": "8"}):
        assert (
            response.reply(forge, Entered(show_models=False, recipe=recipe, values=values)).parts[
                "overridden"
            ]
            == ""
        )


def test_the_plan_counts_the_steps_of_the_reward_model(forge, model, capsys):
    values = {
        "strategy": "rlhf", "model_name": str(model), "dataset": "sample:brief", "max_steps": "6",
    }  # fmt: skip
    entered = Entered(show_models=False, values=values)
    checked = forge.preflight.check(*forge.layers.stack(entered).layers)
    steps = checked.report.reward_updates
    assert steps
    assert steps == checked.plan.reward_steps
    reply = response.reply(forge, entered, checked=checked)
    assert "Steps (reward model + RLHF)" in reply.parts["plan"]
    assert f"{steps} + 6" in reply.parts["plan"]
    print_check(checked)
    assert f"{steps} to train the reward model + 6" in capsys.readouterr().out
    ruled = values | {"trainer.reward": "length"}
    reply = response.reply(forge, Entered(show_models=False, values=ruled))
    assert "reward model +" not in reply.parts["plan"]


def test_a_chat_export_opens_where_its_person_is_chosen(forge, tmp_path):
    path = tmp_path / "chat.txt"
    lines = ["31.12.23, 22:00 - Ben: a", "31.12.23, 22:01 - Anna: b"] * 12
    path.write_text("\n".join(lines), encoding="utf-8")
    values = DATA | {"dataset": str(path)}
    reply = response.reply(forge, Entered(show_models=False, values=values))
    assert not reply.data.is_usable
    assert reply.data.open_tab == "columns"
    assert "Choose the person (chat_person): Ben (12), Anna (12)." in str(reply.parts)
    chosen = [{"path": str(path), "chat_person": "Anna"}]
    recipe = {"data.sources": chosen}
    reply = response.reply(forge, Entered(show_models=False, values=DATA, recipe=recipe))
    assert reply.data.is_usable
    assert reply.data.rows == 1


def test_the_page_is_shown_for_data_of_one_row(forge, tmp_path):
    path = tmp_path / "one.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n', encoding="utf-8")
    values = DATA | {"dataset": str(path)}
    reply = response.reply(forge, Entered(show_models=False, values=values))
    assert reply.data.rows == 1
    assert "eval_split" not in reply.hints
