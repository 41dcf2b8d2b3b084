"""Settings as form fields, and entered values as layers."""

import json
import re

import pytest

from modelforge.config.fields import field_specs
from modelforge.config.optimizers import SCHEMES
from modelforge.config.plan.context import ChangeLog
from modelforge.config.plan.weights import quantization
from modelforge.config.resolve import Layer, resolve
from modelforge.errors import Problem
from ui.html.templates import render
from ui.pages.train import form
from ui.pages.train.form import Entered

PROFILE = {
    "task": "text-generation",
    "compute_specs": "low_end",
    "lora_r": 8,
    "model_name": "starter",
}


def test_every_setting_is_a_field_or_a_card():
    drawn = str(render("form", "settings", form.groups()))
    specs = field_specs()
    assert len(specs) > 33
    for spec in specs:
        # Sources have an editor of their own, beside the data.
        elsewhere = spec.name in form.ON_CARDS or spec.kind == "list"
        name = form.control_of(spec.name)
        assert drawn.count(f'name="{name}"') == (not elsewhere), spec.name
        assert elsewhere or re.search(rf'data-setting-box="[^"]*\b{spec.name}\b', drawn)


def test_every_field_has_a_label_and_a_help_line():
    for spec in form.fields():
        drawn = str(render("form", "setting", spec))
        assert f'for="f-{spec.name}"' in drawn
        assert f'aria-describedby="f-{spec.name}-help f-{spec.name}-error"' in drawn
        assert f'id="f-{spec.name}-help"' in drawn
        assert spec.help.endswith(".")


def _weights(**values):
    """Return what the control shows for these values, and the format that the plan uses."""
    stack = [Layer("low_end", PROFILE | {"dataset": "x.jsonl"}), Layer(form.FORM, values)]
    config = resolve(*stack).config
    shown = form.shown_values(form.values(stack))[form.SCHEME]
    return shown, quantization(config, "cuda", ChangeLog(config))


@pytest.mark.parametrize("choice", form.WEIGHT_FORMATS)
def test_a_weight_format_writes_all_settings_and_is_what_the_plan_uses(choice):
    (control,) = (spec for spec in form.fields() if spec.name == form.SCHEME)
    written = json.loads(control.written[choice])
    assert written.keys() == {form.SCHEME, *form.FLAGS} == set(control.settings)
    assert _weights(**written) == (choice, SCHEMES[choice])


def test_the_weight_formats_are_those_of_the_schema():
    assert form.WEIGHT_FORMATS.keys() == SCHEMES.keys()


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ({}, "bnb-4bit"),
        ({"use_4bit": False}, "none"),
        ({"use_8bit": True}, "bnb-8bit"),
        ({"quantization.scheme": "bnb-8bit"}, "bnb-8bit"),
        ({"quantization.scheme": "none"}, "none"),
    ],
)
def test_values_of_a_recipe_are_shown_as_the_format_that_the_plan_uses(values, shown):
    assert _weights(**values) == (shown, SCHEMES[shown])


def test_values_take_precedence_over_recipe_and_profile():
    entered = Entered.read({"values": {"lora_r": "32"}, "recipe": {"lora_alpha": 64, "lora_r": 4}})
    stack = [Layer("low_end", PROFILE | {"dataset": "x.jsonl"}), *entered.layers]
    config = resolve(*stack).config
    assert (config.lora_r, config.lora_alpha) == (32, 64)
    origins = form.origins(stack, {"low_end"})
    assert origins["lora_r"] == "you"
    assert origins["lora_alpha"] == "recipe"
    assert origins["model_name"] == "from profile"
    assert origins["learning_rate"] == "default"


def test_controls_show_invalid_values_as_typed():
    stack = [Layer("low_end", PROFILE), *Entered(values={"lora_r": "many"}).layers]
    assert form.values(stack)["lora_r"] == "many"
    assert form.values(stack)["learning_rate"] == "2e-4"
    assert form.values(stack)["use_4bit"] == "true"
    assert form.values(stack)["max_seq_length"] == ""


def test_nested_values_fill_dotted_settings():
    values = form.values([Layer("recipe", {"trainer": {"seed": 7}})])
    assert values["trainer.seed"] == "7"


def test_problems_are_split_by_setting():
    seed = Problem("trainer.seed", "-1 is too small.", "Give 0 or more.")
    disk = Problem("disk", "It is full.")
    texts, others = form.errors([seed, disk])
    assert texts == {"trainer.seed": "-1 is too small. Give 0 or more."}
    assert others == [disk]


def test_parts_of_another_type_are_ignored():
    assert Entered.read(None) == Entered()
    assert Entered.read({"values": [1], "profile": 3, "recipe": "x", "name": " "}) == Entered()
