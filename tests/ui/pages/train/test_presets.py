"""The dialog Presets: what is stored of a form, and what applying one keeps."""

import pytest

from modelforge.errors import ConfigError
from modelforge.forge import Forge
from modelforge.paths import Home
from ui.pages.train import presets


@pytest.fixture
def functions(tmp_path):
    forge = Forge(Home(tmp_path / "home"), warm_worker=["true"])
    yield {function.__name__: function for function in presets.functions(forge)}
    forge.close()


FORM = {
    "profile": "mid_range",
    "values": {"lora_r": "24", "dataset": "sample:captain", "model_name": "starter"},
    "recipe": {"num_train_epochs": 2, "optimizer": {"beta2": 0.95}, "dataset": "old.jsonl"},
}


def test_a_preset_holds_what_was_chosen_with_types_and_without_data(functions):
    reply = functions["save_preset"]({**FORM, "name": "mine"})
    assert reply.presets == [{"name": "mine", "problem": ""}]
    applied = functions["apply_preset"]({**FORM, "name": "mine"})
    assert applied.recipe == {
        "compute_specs": "mid_range",
        "lora_r": 24,
        "num_train_epochs": 2,
        "optimizer": {"beta2": 0.95},
    }
    assert applied.profile == "mid_range"
    assert applied.values == {"dataset": "sample:captain", "model_name": "starter"}
    with pytest.raises(ConfigError, match="There is a preset “mine”"):
        functions["save_preset"]({**FORM, "name": "mine"})


def test_a_preset_with_its_model_replaces_that_of_the_form(functions):
    functions["save_preset"]({**FORM, "name": "whole", "with_model": True})
    other = {"values": {"model_name": "other", "lora_r": "4", "dataset": "x.jsonl"}}
    applied = functions["apply_preset"]({**other, "name": "whole"})
    assert applied.recipe["model_name"] == "starter"
    assert applied.values == {"dataset": "x.jsonl"}


def test_an_empty_or_wrong_form_is_not_stored(functions):
    with pytest.raises(ConfigError, match="no settings to store"):
        functions["save_preset"]({"values": {"dataset": "sample:captain"}, "name": "x"})
    with pytest.raises(ConfigError, match="999 is too large"):
        functions["save_preset"]({"values": {"lora_r": "999"}, "name": "x"})
    functions["save_preset"]({"values": {"lora_r": "9"}, "name": "no data yet"})


def test_a_deleted_preset_comes_back_whole(functions):
    functions["save_preset"]({**FORM, "name": "mine"})
    recipe = functions["delete_preset"]({"name": "mine"}).recipe
    assert functions["list_presets"]({}).presets == []
    functions["restore_preset"]({"name": "mine", "recipe": recipe})
    functions["rename_preset"]({"name": "mine", "new_name": "yours"})
    assert functions["apply_preset"]({"name": "yours"}).recipe == recipe


def test_shipped_presets_are_listed_compared_and_applied(functions):
    listed = functions["list_presets"]({})
    names = [one["name"] for one in listed.shipped]
    assert names == ["Surogate-style", "nanochat", "Safe-Synthesizer-style", "Stack-Wise"]
    applied = functions["apply_preset"]({**FORM, "name": "Safe-Synthesizer-style"})
    assert applied.recipe["lora_r"] == 32
    assert applied.values == {"dataset": "sample:captain", "model_name": "starter"}
    # The machine that was chosen stays.
    assert applied.profile == "mid_range"
    assert 'LoRA rank</th><td class="num dim">24</td><td class="num"><b>32</b>' in (applied.changes)
    form = {"profile": "mid_range", "values": applied.values, "recipe": applied.recipe}
    again = functions["apply_preset"]({**form, "name": "Safe-Synthesizer-style"})
    assert "It changes nothing" in again.changes
    with pytest.raises(ConfigError, match="ships with the program"):
        functions["save_preset"]({**FORM, "name": "NANOCHAT"})
    with pytest.raises(ConfigError, match="ships with the program"):
        functions["delete_preset"]({"name": "nanochat"})
