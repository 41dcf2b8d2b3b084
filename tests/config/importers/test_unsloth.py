"""Files of Unsloth Studio."""

import json

import pytest

from modelforge.config.importers.read import import_settings
from tests.config.importers.examples import problems_of, read_example, settings_of


def test_a_lora_training():
    recipe = read_example("unsloth", "02-lora-text").recipe
    assert (recipe["strategy"], recipe["provider"]) == ("qlora", "unsloth")
    assert recipe["dataset"] == "acme/letters"
    assert recipe["adapter"]["target_modules"] == "q_proj, k_proj"
    assert recipe["num_train_epochs"] == 1
    assert "max_steps" not in recipe


def test_a_full_training_is_not_quantized():
    recipe = read_example("unsloth", "03-full").recipe
    assert recipe["adapter"]["enabled"] is False
    assert recipe["quantization"]["scheme"] == "none"
    assert recipe["logging"]["report_to"] == "tensorboard"


def test_continued_training_is_on_whole_texts():
    imported = read_example("unsloth", "05-continued")
    assert imported.recipe["dataset"] == "tales.jsonl"
    assert imported.recipe["data"]["loss_on"] == "all"
    assert imported.recipe["optimizer"] == {"embedding_lr": 1e-5, "unembedding_lr": 1e-5}


def test_its_group_named_data_is_not_an_option_of_another_system():
    found = import_settings("model: acme/pine\ndata: {dataset: x}\nlora: {lora_r: 4}\n", "file")
    assert found.imported.system == "unsloth"


def test_json_is_read_too():
    text = json.dumps({"training": {"max_steps": 5, "num_epochs": 0}, "lora": {"lora_r": 4}})
    assert settings_of(text)["max_steps"] == 5


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("training:\n  num_epochs: 0\n  max_steps: 0\n", "line 2, training.num_epochs"),
        ("training:\n  max_steps: -3\n", "line 2, training.max_steps"),
        ("training:\n  max_steps: 3\n  load_in_4bit: 4\n", "line 3, training.load_in_4bit"),
        ("lora: [1]\ntraining:\n  max_steps: 3\n", "line 1, lora"),
        (
            "training:\n  max_steps: 3\nlora:\n  target_modules: [1]\n",
            "line 4, lora.target_modules",
        ),
    ],
)
def test_a_contradiction_or_a_wrong_value_is_an_error(text, where):
    problems = problems_of(text, "unsloth")
    assert [problem.where for problem in problems] == [f"file.yaml, {where}"]
