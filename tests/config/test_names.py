"""Lists stand wherever names with commas do; the schema describes numbers that may be auto."""

from __future__ import annotations

import pytest

from modelforge.cli.parsing import parse_settings
from modelforge.config.fields import field_specs, source_specs
from modelforge.config.resolve import Layer, resolve
from modelforge.config.rules.training import requested_trackers
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import ConfigError

NAMES = {
    "adapter.target_modules": ["q_proj", "v_proj"],
    "adapter.modules_to_save": ["lm_head"],
    "logging.report_to": ["tensorboard", "wandb"],
    "data.role_weights": ["user=0.5", "assistant=1"],
}


def read(minimal, name, value):
    config = resolve(Layer("form", minimal | {name: value})).config
    group, _, field = name.partition(".")
    return getattr(getattr(config, group), field)


@pytest.mark.parametrize("name", NAMES)
def test_a_list_its_json_and_text_with_commas_are_the_same(minimal, name):
    names = NAMES[name]
    text = ", ".join(names)
    quoted = ", ".join(f'"{each}"' for each in names)
    for value in (names, tuple(names), f"[{quoted}]", text):
        assert read(minimal, name, value) == text
    from_terminal = parse_settings([f"{name}=[{quoted}]"])[name]
    assert read(minimal, name, from_terminal) == text


def test_every_text_with_commas_is_tried():
    help_texts = {s.name: f"{s.help} {s.more}" for s in (*field_specs(), *source_specs().values())}
    with_commas = {name for name, text in help_texts.items() if "with commas" in text}
    assert with_commas <= NAMES.keys()
    assert with_commas


def test_trackers_of_a_list_are_used(minimal):
    config = resolve(Layer("form", minimal | {"logging": {"report_to": ["wandb", "aim"]}})).config
    assert requested_trackers(config) == ["wandb", "aim"]


@pytest.mark.parametrize("value", [["q_proj", 3], [["q_proj"]], {"q_proj": 1}, "[q_proj"])
def test_what_is_not_a_list_of_names_is_not_taken_as_one(minimal, value):
    with pytest.raises(ConfigError) as refused:
        read(minimal, "adapter.target_modules", value)
    assert refused.value.problems[0].where == "adapter.target_modules"


def test_the_schema_has_lists_and_the_bounds_of_numbers_that_may_be_auto():
    groups = TrainingConfig.model_json_schema()["$defs"]
    targets = groups["Adapter"]["properties"]["target_modules"]
    assert {part["type"] for part in targets["anyOf"]} == {"string", "array"}
    records = groups["Data"]["properties"]["records_to_sample"]
    union, nothing = records["anyOf"]
    assert nothing == {"type": "null"}
    assert union == {
        "anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto", "type": "string"}]
    }
    assert records["x-unit"] == "records"
