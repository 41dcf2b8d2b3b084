"""Keys of a recipe that are not settings."""

import pytest

from modelforge.config.recipe_keys import unknown_keys
from modelforge.config.resolve import Layer, resolve, valid_settings
from modelforge.errors import ConfigError

RECIPE = {
    "lora_rank": 16,
    "learning_rate": "fast",
    "adapter": {"enabld": True, "qqq": True},
    "optimizer": 5,
    "data": {"sources": [{"path": "a.jsonl", "promt_field": "frage"}]},
    "zzz": [1],
}


def test_unknown_keys_are_found_where_they_stand_with_the_nearest_setting():
    found = [(key.path, key.similar, key.kind) for key in unknown_keys(RECIPE)]
    assert found == [
        (("lora_rank",), ("lora_r",), "a setting"),
        (("adapter", "enabld"), ("adapter.enabled",), "a setting"),
        (("adapter", "qqq"), None, "a setting"),
        (("optimizer",), None, "a group of settings"),
        (
            ("data", "sources", 0, "promt_field"),
            ("data", "sources", 0, "prompt_field"),
            "a setting of a source",
        ),
        (("zzz",), None, "a setting"),
    ]


def test_every_unknown_key_is_a_problem_under_the_same_name():
    with pytest.raises(ConfigError) as failure:
        resolve(Layer("recipe", RECIPE))
    reported = {problem.where for problem in failure.value.problems}
    assert {key.name for key in unknown_keys(RECIPE)} <= reported


def test_a_nearest_setting_that_has_a_value_is_not_offered():
    (key,) = unknown_keys({"lora_rank": 16, "lora_r": 8})
    assert key.similar is None


@pytest.mark.parametrize("recipe", [{}, {"lora_r": 8, "adapter": None}, {"adapter.enabled": True}])
def test_a_right_recipe_has_none(recipe):
    assert unknown_keys(recipe) == []


def test_of_many_unknown_keys_the_first_are_returned():
    assert len(unknown_keys({f"x{number}": 1 for number in range(900)})) == 50


def test_the_valid_settings_are_kept_beside_the_invalid_ones():
    kept = valid_settings(
        Layer("profile", {"lora_r": 8, "learning_rate": 1e-4}),
        Layer("recipe", {"lora_rank": 4, "learning_rate": "fast", "optimizer": {"beta1": 0.8}}),
        Layer("form", {"per_device_train_batch_size": "2", "task": "poetry"}),
    )
    assert kept == {"lora_r": 8, "per_device_train_batch_size": 2, "optimizer": {"beta1": 0.8}}
