import pytest

from modelforge.config import TrainingConfig
from modelforge.config.fields import field_specs, nested_groups, source_specs, specs_by_name

ROWS = field_specs()
GROUPS = {"model", "quantization", "adapter", "data", "optimizer", "schedule", "trainer"} | {
    "evaluation",
    "memory",
    "hardware",
    "logging",
    "privacy",
    "pretraining",
    "progressive",
}


def test_every_setting_is_described_once():
    names = [spec.name for spec in ROWS]
    assert len(names) == len(set(names))
    assert len([name for name in names if "." not in name]) == 33
    assert set(nested_groups()) == GROUPS


@pytest.mark.parametrize("spec", [*ROWS, *source_specs().values()], ids=lambda spec: spec.name)
def test_every_setting_explains_itself(spec):
    assert spec.label
    assert spec.group or spec.name in source_specs()
    assert spec.help.endswith(".")
    assert len(spec.help) <= 90
    assert not spec.label.endswith(".")
    assert spec.kind != "choice" or spec.choices


def test_a_number_has_bounds():
    rank, rate, length = (specs_by_name()[n] for n in ("lora_r", "learning_rate", "max_seq_length"))
    assert (rank.kind, rank.minimum, rank.maximum, rank.default) == ("int", 1, 256, 16)
    assert (rate.kind, rate.minimum, rate.maximum) == ("float", 0, 1)
    assert rate.exclusive_minimum
    assert not rank.exclusive_minimum
    assert (length.nullable, length.minimum, length.unit) == (True, -1, "tokens")


def test_a_choice_lists_its_values():
    assert specs_by_name()["strategy"].choices == ("sft", "qlora", "rlhf", "dpo")
    assert specs_by_name()["hardware.device"].default == "auto"


def test_exactly_four_settings_are_required():
    required = [spec.name for spec in ROWS if spec.required]
    assert required == ["task", "model_name", "dataset", "compute_specs"]


def test_defaults_are_those_of_the_schema(minimal):
    config = TrainingConfig(**minimal)
    for spec in ROWS:
        group, _, name = spec.name.rpartition(".")
        holder = getattr(config, group) if group else config
        if not spec.required:
            assert getattr(holder, name) == spec.default


def test_sources_are_lists_of_things_with_settings_of_their_own():
    assert (
        specs_by_name()["data.sources"].kind
        == specs_by_name()["data.validation_sources"].kind
        == "list"
    )
    assert specs_by_name()["data.sources"].default == []
    inside = source_specs()
    assert [name for name, spec in inside.items() if spec.required] == ["path"]
    assert inside["message_property_mappings"].kind == "map"
    assert inside["prompt_format"].multiline
    assert not inside["text_field"].multiline
    assert inside["system_prompt_type"].choices == ("none", "field", "fixed")
