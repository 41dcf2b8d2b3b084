"""The choice of growing a model on the Train page."""

import re

import pytest

from ui.pages.train import response
from ui.pages.train.form import Entered

GROWS = {"progressive.enabled": "true", "progressive.steps_per_stage": "5"}


def reply_for(forge, **values):
    return response.reply(forge, Entered(show_models=False, values=values))


def test_it_is_folded_until_it_is_made(forge):
    part = reply_for(forge).parts["grow"]
    assert "<details" in part
    assert " open" not in part.split(">")[0]
    assert re.findall(r'name="(.*?)"', part) == ["progressive.enabled"] * 2
    assert "The model keeps its layers: the usual choice." in part


def test_a_growing_model_has_its_settings_and_not_those_of_one_stage(forge):
    reply = reply_for(forge, **GROWS)
    part = reply.parts["grow"]
    assert " open" in part.split(">")[0]
    names = dict.fromkeys(re.findall(r'name="(.*?)"', part))
    assert list(names) == [
        "progressive.enabled",
        "progressive.stages",
        "progressive.layers_per_stage",
        "progressive.steps_per_stage",
        "progressive.direction",
        "progressive.trunk",
    ]
    # The settings have fields of the same names below: an id stands once.
    assert 'id="f-' not in part
    assert {"num_train_epochs", "max_steps"} <= set(reply.hidden)
    assert not {"num_train_epochs", "max_steps"} & set(reply_for(forge).hidden)


@pytest.mark.parametrize("values", [{"strategy": "dpo"}, {"task": "summarization"}])
def test_it_is_not_offered_where_no_model_can_grow(forge, values):
    assert reply_for(forge, **values).parts["grow"] == ""
    # Switched on, it can be switched off.
    assert reply_for(forge, **values, **GROWS).parts["grow"]


def test_the_card_says_what_is_added(forge, model):
    values = {"dataset": "sample:captain", "model_name": str(model), "progressive.stages": "3"}
    summary = reply_for(forge, **values, **GROWS).parts["sum-task"]
    assert "of a growing model, 3 new layers in 3 stages" in summary
    assert "growing" not in reply_for(forge, **values).parts["sum-task"]
