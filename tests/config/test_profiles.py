import pytest

from modelforge.config.defaults import default_learning_rate, strategy_defaults
from modelforge.config.fields import specs_by_name
from modelforge.config.plan.make import PROFILE_LENGTH
from modelforge.config.profiles import load_profiles, profile_settings, recommended_models
from modelforge.config.resolve import Layer, resolve
from modelforge.errors import NotFoundError

PROFILES = load_profiles()


def test_every_profile_can_be_chosen_and_has_a_length():
    assert tuple(PROFILES) == specs_by_name()["compute_specs"].choices == tuple(PROFILE_LENGTH)


def test_the_profiles_are_ordered_from_small_to_large():
    assert [one.min_vram_gib for one in PROFILES.values()][:3] == [0, 7.2, 15.2]
    assert [one.min_ram_gib for one in PROFILES.values()][:3] == [0, 15.2, 15.2]


@pytest.mark.parametrize("practice", [False, True])
@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_gives_answers_that_resolve(name, practice):
    answers = profile_settings(name, practice=practice)
    rest = {"model_name": "starter", "dataset": "sample:captain"}
    resolved = resolve(Layer("profile", answers), Layer("form", rest))
    assert resolved.config.compute_specs == name
    assert resolved.origins["lora_r"] == "profile"


@pytest.mark.parametrize(
    ("name", "batch", "accumulation", "length", "rank", "dropout", "four_bit"),
    [
        ("low_end", 1, 16, 512, 16, None, True),
        ("mid_range", 2, 4, 2048, 64, None, True),
        ("high_end", 4, 2, 4096, 64, 0.05, False),
    ],
)
def test_the_starting_values_are_the_designs(
    name, batch, accumulation, length, rank, dropout, four_bit
):
    answers = profile_settings(name)
    assert answers["per_device_train_batch_size"] == batch
    assert answers["gradient_accumulation_steps"] == accumulation
    assert answers["max_seq_length"] == length
    assert answers["lora_r"] == rank
    assert answers["lora_alpha"] == 2 * rank
    assert answers.get("lora_dropout") == dropout
    assert answers["use_4bit"] is four_bit
    assert not {"fp16", "bf16"} & set(answers), "precision is left to hardware.precision"


def test_practice_is_a_short_run_without_four_bit_weights():
    answers = profile_settings("low_end", practice=True)
    assert answers["use_4bit"] is False
    assert answers["num_train_epochs"] == 1
    assert answers["optim"] == "adamw_torch"
    assert profile_settings("low_end")["use_4bit"] is True


def test_the_starter_comes_first_in_practice_and_last_otherwise():
    for name in PROFILES:
        assert recommended_models(name, practice=True)[0]["name"] == "starter"
        models = [model["name"] for model in recommended_models(name)]
        assert models[-1] == "starter"
        assert models.count("starter") == 1
    assert all(model["parameters"] < 1 for model in recommended_models("low_end", practice=True))


def test_the_rate_is_the_one_advised_for_the_strategy():
    assert profile_settings("mid_range")["learning_rate"] == default_learning_rate("sft") == 2e-4
    practice = profile_settings("low_end", practice=True)["learning_rate"]
    assert practice == default_learning_rate("sft", practice=True) == 5e-4


def test_the_contract_s_advice_is_kept():
    advice = {"sft": 2e-4, "qlora": 2e-4, "rlhf": 1.41e-5}
    assert {name: default_learning_rate(name) for name in advice} == advice
    assert default_learning_rate("dpo", adapter=False) == 5e-7
    assert strategy_defaults("qlora")["use_4bit"] is True


def test_an_unknown_profile_is_refused_with_the_names_there_are():
    with pytest.raises(NotFoundError, match="Choose low_end, mid_range, high_end"):
        profile_settings("huge")


def test_a_folder_without_profiles_is_reported_in_words(tmp_path):
    with pytest.raises(NotFoundError, match="The profiles are missing"):
        load_profiles(tmp_path)


def test_a_profile_of_ones_own_needs_only_a_file(tmp_path):
    (tmp_path / "tiny.toml").write_text(
        'title = "Tiny"\ndescription = "A watch."\nmin_vram_gib = 1\nmin_ram_gib = 2\n'
        "[settings]\nlora_r = 1\n"
        '[[models]]\nname = "a/b"\ntitle = "B"\nparameters = 0.1\n'
        'licence = "MIT"\nnote = "Small."\n',
        encoding="utf-8",
    )
    assert load_profiles(tmp_path)["tiny"].settings == {"lora_r": 1}
