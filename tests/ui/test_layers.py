"""The layers of a form: what follows strategy and model, and what does not apply is not sent."""

import pytest

from modelforge.config.defaults import default_learning_rate
from modelforge.config.fields import specs_by_name
from modelforge.forge import Forge
from modelforge.hardware import machine as machines
from modelforge.paths import Home
from tests.preflight.contexts import WORKSTATION
from ui.pages.train import cards, form, model_card, response
from ui.pages.train.form import Entered


@pytest.fixture(scope="module")
def forge(tmp_path_factory):
    made = Forge(Home(tmp_path_factory.mktemp("home")), warm_worker=["true"])
    yield made
    made.close()


def entered(**mine):
    return Entered(values={name.replace("__", "."): value for name, value in mine.items()})


def shown(forge, **mine):
    return forge.layers.stack(entered(**mine))


def rated(forge, **mine):
    form_input = entered(**mine)
    return forge.layers.rate_models(form_input, forge.layers.stack(form_input))


def sent(found):
    held = {}
    for layer in found.layers:
        held.update(layer.values)
    return held


@pytest.mark.parametrize("strategy", ["sft", "qlora", "dpo", "rlhf"])
def test_the_learning_rate_follows_the_strategy_until_it_is_set(forge, strategy):
    practice = forge.machine.current().practice_mode
    reply = response.reply(forge, entered(strategy=strategy))
    assert float(reply.values["learning_rate"]) == default_learning_rate(
        strategy, practice=practice
    )
    assert reply.origins["learning_rate"] == f"recommended for {strategy}"
    own = response.reply(forge, entered(strategy=strategy, learning_rate="0.01"))
    assert own.values["learning_rate"] == "0.01"
    assert own.origins["learning_rate"] == "you"


def test_what_does_not_apply_is_kept_and_not_sent(forge):
    mine = {"packing": "true", "dataset": "sample:captain"}
    assert sent(shown(forge, **mine))["packing"] == "true"
    found = shown(forge, **mine, strategy="dpo")
    assert "packing" not in sent(found)
    assert found.texts["packing"] == "true"
    assert "packing" in found.hidden
    assert "packing" not in response.reply(forge, entered(**mine, strategy="dpo")).errors


def test_a_setting_of_the_profile_that_does_not_apply_is_not_sent_either(forge):
    full = sent(shown(forge, adapter__enabled="false"))
    assert not {"lora_r", "use_4bit"} & full.keys()
    assert "use_4bit" not in sent(shown(forge, use_8bit="true"))
    assert "lora_alpha" not in sent(shown(forge, adapter__alpha_over_r="2"))


def test_a_recipe_is_never_shortened_in_silence(forge):
    recipe = {"strategy": "dpo", "packing": True}
    reply = response.reply(forge, Entered(recipe=recipe))
    assert "packing" in reply.errors
    assert "packing" not in reply.hidden
    fixed = response.reply(forge, Entered(recipe=recipe, values={"packing": "false"}))
    assert "packing" not in fixed.errors


def test_groups_come_and_go_with_the_strategy(forge):
    def groups(strategy):
        hidden = set(response.reply(forge, entered(strategy=strategy)).hidden)
        return {spec.group for spec in form.fields() if spec.name not in hidden}

    assert not {"Preferences", "Rewards"} & groups("sft")
    assert "Preferences" in groups("dpo")
    assert "Rewards" not in groups("dpo")
    assert "Rewards" in groups("rlhf")


def test_the_models_offered_are_those_of_the_task(forge):
    text = {model["name"] for model, _ in rated(forge)}
    answers_found = {
        model["name"] for model, _ in rated(forge, task="extractive-question-answering")
    }
    assert "starter" in text & answers_found
    assert any("squad" in name for name in answers_found - text)


def test_a_model_brings_what_it_is_best_begun_with(tmp_path, monkeypatch):
    monkeypatch.setattr(machines, "probe_machine", lambda _root: WORKSTATION)
    forge = Forge(Home(tmp_path), warm_worker=["true"])
    model = {"model_name": "Qwen/Qwen3-14B"}
    form_input = Entered(profile="high_end", values=model)
    found = forge.layers.stack(form_input)
    models = forge.layers.rate_models(form_input, found)
    assert found.texts["per_device_train_batch_size"] == "1"
    assert form.origins(found.all_layers, ())["use_4bit"] == "recommended for the model"
    own = Entered(profile="high_end", values={**model, "per_device_train_batch_size": "2"})
    assert forge.layers.stack(own).texts["per_device_train_batch_size"] == "2"
    # What does not fit the card of 12 GiB comes last, and says so.
    needs = [need.fits for _, need in models]
    assert needs == sorted(needs, reverse=True)
    assert False in needs
    assert "does not fit" in model_card.catalog(models)
    forge.close()


def test_what_a_task_does_not_allow_cannot_be_chosen():
    drawn = str(cards.tasks("summarization"))
    assert 'value="dpo" id="t-strategy-dpo" disabled' in drawn
    assert "disabled" not in str(cards.tasks("text-generation"))


def test_every_choice_of_the_contract_has_a_tile_with_a_sentence():
    for name, listed in (("task", cards.TASKS), ("strategy", cards.STRATEGIES),
                         ("provider", cards.PROVIDERS)):  # fmt: skip
        assert {value for value, *_ in listed} == set(specs_by_name()[name].choices)
        assert all(line.endswith(".") for *_, line in listed)
