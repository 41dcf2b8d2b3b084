from dataclasses import replace

import pytest

from modelforge.config.defaults import default_learning_rate, strategy_defaults
from modelforge.config.fields import specs_by_name
from modelforge.config.profiles import (
    load_profiles,
    profile_length,
    profile_problems,
    profile_settings,
    recommended_models,
)
from modelforge.config.resolve import Layer, resolve
from modelforge.errors import NotFoundError

PROFILES = load_profiles()


def test_the_shipped_profiles_are_the_choices_of_the_contract():
    assert set(specs_by_name()["compute_specs"].choices) <= PROFILES.keys()
    assert all(profile_length(name) == PROFILES[name].length for name in PROFILES)
    assert [PROFILES[name].length for name in ("low_end", "mid_range", "high_end")] == [
        512,
        2048,
        4096,
    ]


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


@pytest.mark.parametrize("strategy", ["sft", "qlora", "dpo", "rlhf"])
def test_no_profile_has_four_bit_weights_without_an_nvidia_gpu_but_for_qlora(strategy):
    found = {
        name: replace(one, settings=one.settings | {"strategy": strategy, "use_4bit": True})
        for name, one in PROFILES.items()
    }
    for name in found:
        assert profile_settings(name, profiles=found)["use_4bit"] is True
    for name in ("mid_range", "high_end"):
        settings = profile_settings(name, practice=True, profiles=found)
        assert settings["use_4bit"] is (strategy == "qlora")
    wanted = replace(found["low_end"], practice={"use_4bit": True})
    settings = profile_settings("low_end", practice=True, profiles={"low_end": wanted})
    assert settings["use_4bit"] is True, "the practice table is for computers without a GPU"


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


def test_a_profile_s_own_rate_takes_precedence_over_the_advised_one():
    low = PROFILES["low_end"]
    own = {"low_end": replace(low, settings=low.settings | {"learning_rate": 0.25})}
    for practice in (False, True):
        settings = profile_settings("low_end", practice=practice, profiles=own)
        assert settings["learning_rate"] == 0.25


def test_the_contract_s_advice_is_kept():
    advice = {"sft": 2e-4, "qlora": 2e-4, "rlhf": 1.41e-5}
    assert {name: default_learning_rate(name) for name in advice} == advice
    assert default_learning_rate("dpo", adapter=False) == 5e-7
    assert strategy_defaults("qlora")["use_4bit"] is True


def test_an_unknown_profile_is_refused_with_the_names_there_are():
    with pytest.raises(NotFoundError, match=f"Choose {', '.join(PROFILES)}"):
        profile_settings("huge")


def test_a_package_without_profiles_is_reported_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr("modelforge.config.profiles.resource_folder", lambda _name: tmp_path)
    with pytest.raises(NotFoundError, match="The profiles are missing"):
        load_profiles()


# ---- Profiles of the user


TINY = """title = "Tiny"
description = "A small computer."
min_vram_gib = 1
[settings]
lora_r = 2
max_seq_length = 128
"""


def own(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return load_profiles(folder)


def test_a_file_in_the_folder_is_a_profile_in_the_order_of_its_threshold(tmp_path):
    found = own(tmp_path, tiny=TINY, offered='title = "Only offered"\n[settings]\n')
    assert list(found) == ["low_end", "tiny", "mid_range", "high_end", "offered"]
    assert found["tiny"].settings == {"lora_r": 2, "max_seq_length": 128}
    assert [name for name, one in found.items() if one.own] == ["tiny", "offered"]
    assert [profile_length(name, tmp_path) for name in ("tiny", "offered", "gone")] == [
        128,
        512,
        512,
    ]
    assert profile_settings("tiny", profiles=found)["compute_specs"] == "tiny"
    assert profile_problems(tmp_path) == []
    assert "tiny" not in load_profiles()


def test_a_changed_file_is_read_again(tmp_path):
    own(tmp_path, tiny=TINY)
    assert (
        own(tmp_path, tiny=TINY.replace("lora_r = 2", "lora_r = 16"))["tiny"].settings["lora_r"]
        == 16
    )


def test_without_a_gpu_an_own_profile_is_as_careful_as_the_smallest(tmp_path):
    found = own(tmp_path, tiny=TINY)
    practice = profile_settings("tiny", practice=True, profiles=found)
    assert practice["use_4bit"] is False
    assert practice["max_seq_length"] == 128, "its own settings win"
    models = recommended_models("tiny", profiles=found)
    assert models == recommended_models("low_end"), "it names none of its own"


WRONG = """title = "Wrong"
colour = "red"
[settings]
lora_rank = 4
lora_r = 999
model_name = "starter"
"data.paddingfree" = true
[settings.hardware]
device = "tpu"
[[models]]
name = "a"
title = "A"
parameters = 1.0
[[models]]
name = "b"
title = "B"
parameters = -1.0
"""


@pytest.mark.parametrize(
    "words",
    [
        "wrong.toml, line 2, colour: Unknown key.",
        "line 4, settings.lora_rank is not a setting. Did you mean 'lora_r'?",
        "line 5, settings.lora_r: 999 is too large. Enter a whole number from 1 to 256.",
        "line 6, settings.model_name: A profile cannot set it",
        "line 7, settings.data.paddingfree is not a setting. Did you mean 'data.padding_free'?",
        "line 9, settings.hardware.device: 'tpu' is not one of the choices.",
        "line 17, models.parameters: -1.0 is not allowed.",
    ],
)
def test_every_problem_of_a_file_is_named_with_its_line(tmp_path, words):
    assert list(own(tmp_path, wrong=WRONG, tiny=TINY)) == [
        "low_end", "tiny", "mid_range", "high_end"
    ]  # fmt: skip
    assert words in "\n".join(map(str, profile_problems(tmp_path)))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("low_end.toml", TINY, "The name low_end is a shipped profile"),
        ("recipe.toml", TINY, "The name recipe is reserved"),
        ("A b.toml", TINY, "small letters, digits, _ and -"),
        ("x.toml", "x = = 3", "not valid TOML"),
        ("x.toml", "x = " + "[" * 5000, "x.toml: The"),
        ("x.toml", b"\xff\xfe", "not UTF-8"),
        ("x.toml", b"#" * 300_000, "larger than"),
        ("x.toml", 'title = "X"\n', "x.toml, settings: A value is required."),
        ("x.toml", 'title = "X"\nsettings = 3\n', "line 2, settings: 3 is not allowed."),
        ("x.toml", TINY + "[practice]\nlora_r = 0\n", "line 8, practice.lora_r: 0 is too small."),
        (
            "x.toml",
            TINY + '[[models]]\nname = "m"\ntitle = "M"\nparameters = 1\nanswers = {lora_r = 0}\n',
            "line 11, models.answers.lora_r: 0 is too small.",
        ),
    ],
)
def test_a_file_that_cannot_be_a_profile_is_a_problem_and_no_crash(tmp_path, name, content, words):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
    assert load_profiles(tmp_path) == load_profiles()
    (problem,) = profile_problems(tmp_path)
    assert words in str(problem)
    assert problem.remedy


def test_more_profiles_than_a_person_uses_are_not_read(tmp_path):
    found = own(tmp_path, **{f"p{number}": TINY for number in range(60)})
    assert sum(one.own for one in found.values()) == 50
    assert "60 profiles are too many" in str(profile_problems(tmp_path)[0])
