"""What a form keeps when settings are taken over, and what would change in it."""

from __future__ import annotations

import pytest

from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.services.layers import FormInput
from modelforge.services.presets.take_over import setting_changes, taken_over


@pytest.fixture
def layers(tmp_path):
    forge = Forge(Home(tmp_path / "home"), warm_worker=["true"])
    yield forge.layers
    forge.close()


FORM = FormInput(
    "mid_range", {"lora_r": "24", "model_name": "starter", "dataset": "sample:captain"}
)


def test_a_form_keeps_its_data_and_model_where_the_settings_name_none():
    form = taken_over({"lora_r": 8}, FORM)
    assert form.recipe == {"lora_r": 8}
    assert form.values == {"model_name": "starter", "dataset": "sample:captain"}
    assert form.profile == "mid_range"


def test_named_data_and_a_named_model_replace_those_of_the_form_unless_they_are_kept():
    settings = {"model_name": "x/y", "dataset": "a", "data": {"sources": [{"path": "a"}]}}
    assert taken_over(settings, FORM).values == {}
    kept = taken_over(settings, FORM, keep={"data", "model"}).values
    assert kept == {"model_name": "starter", "dataset": "sample:captain", "data.sources": []}


def changes(layers, now, then):
    return setting_changes(layers.stack(now), layers.stack(then))


def test_only_values_that_differ_are_changes(layers):
    # A form holds texts, a recipe values: they are compared by what they mean.
    now = FormInput(None, {"lora_r": "24", "learning_rate": "2e-4", "packing": "true"})
    then = FormInput(None, {}, {"lora_r": 24, "learning_rate": 0.0002, "packing": True})
    assert changes(layers, now, then).changed == []
    then.recipe["lora_r"] = 8
    found = changes(layers, now, then)
    assert [(one.setting, one.now, one.then) for one in found.changed] == [("lora_r", "24", 8)]
    assert found.same > 50


def test_data_is_compared_by_its_paths(layers):
    sources = {"dataset": "a.jsonl", "data": {"sources": [{"path": "a.jsonl"}, {"path": "b.csv"}]}}
    (change,) = changes(
        layers, FormInput(None, {"dataset": "sample:captain"}), FormInput(None, {}, sources)
    ).changed
    assert (change.label, change.now, change.then) == ("Data", "sample:captain", "a.jsonl, b.csv")


def test_settings_that_apply_in_neither_form_are_left_out(layers):
    beta = {"trainer.preference_beta": 0.3}
    sft = FormInput(None, {"strategy": "sft"})
    assert changes(layers, sft, FormInput(None, {"strategy": "sft", **beta})).changed == []
    dpo = FormInput(None, {"strategy": "dpo", **beta})
    assert "trainer.preference_beta" in {c.setting for c in changes(layers, sft, dpo).changed}
