import pytest

from modelforge.config.fields import specs_by_name
from modelforge.config.resolve import Layer, resolve
from modelforge.config.validation_messages import shown
from modelforge.errors import ConfigError
from tests.config.problems import find_problems

NAMED = (
    "Enter its settings by name: trainer.fractional_epochs, trainer.target_tokens, "
    "trainer.target_flops and so on."
)


def problem(minimal, **answers):
    """The one problem that these answers have."""
    problems = find_problems(minimal | answers)
    assert len(problems) == 1, problems
    return problems[0]


def said_so(minimal, name, value):
    """The value that one answer, given with the four required ones, comes to."""
    config = resolve(Layer("form", minimal | {name: value})).config
    group, _, inner = name.rpartition(".")
    return getattr(getattr(config, group) if group else config, inner)


def test_a_later_layer_wins_and_every_value_knows_where_it_came_from(minimal):
    resolved = resolve(
        Layer("profile", {"lora_r": 8, "max_seq_length": 512}),
        Layer("recipe", minimal | {"lora_r": 32, "hardware": {"device": "cpu"}}),
        Layer("form", {"hardware.device": "cuda"}),
    )
    assert resolved.config.lora_r == 32
    assert resolved.config.hardware.device == "cuda"
    origins = resolved.origins
    assert origins["max_seq_length"] == "profile"
    assert origins["lora_r"] == "recipe"
    assert origins["hardware.device"] == "form"
    assert origins["learning_rate"] == origins["trainer.seed"] == "contract"
    assert set(origins) == set(specs_by_name())


def test_what_is_not_set_stays_unset(minimal):
    config = resolve(Layer("body", minimal | {"trainer": {}, "hardware": None})).config
    assert config.explicit_values() == minimal


def test_every_problem_is_reported_at_once():
    answers = {
        "task": "chat",
        "model_name": "",
        "lora_r": 0,
        "learning_rate": 2,
        "learnin_rate": 1,
        "max_steps": 0,
        "use_4bit": True,
        "use_8bit": True,
    }
    assert [found.where for found in find_problems(answers)] == [
        "learnin_rate",
        "task",
        "model_name",
        "dataset",
        "compute_specs",
        "lora_r",
        "use_4bit",
        "learning_rate",
        "max_steps",
    ]


def test_resolve_raises_what_check_returns(minimal):
    with pytest.raises(ConfigError) as caught:
        resolve(Layer("body", minimal | {"lora_r": 0, "fp16": "maybe"}))
    assert [str(found) for found in caught.value.problems] == [
        "lora_r: 0 is too small. Enter a whole number from 1 to 256.",
        "fp16: 'maybe' is neither true nor false. Enter true or false.",
    ]


@pytest.mark.parametrize(
    ("name", "value", "comes_to"),
    [
        ("learning_rate", "2e-4", 2e-4),
        ("learning_rate", " 0.5 ", 0.5),
        ("learning_rate", 1, 1.0),
        ("lora_r", "16", 16),
        ("lora_r", "16.0", 16),
        ("lora_r", 16.0, 16),
        ("max_steps", "1e3", 1000),
        ("max_steps", "-1", -1),
        ("use_4bit", "true", True),
        ("use_4bit", "false", False),
        ("use_4bit", "False", False),
        ("use_8bit", 1, True),
        ("max_seq_length", "", None),
        ("max_seq_length", "null", None),
        ("max_seq_length", "512", 512),
        ("logging.run_name", "", None),
        ("logging.run_name", "  ", None),
        ("logging.run_name", "Pirate ☠", "Pirate ☠"),
        ("strategy", " qlora ", "qlora"),
        ("model_name", " starter ", "starter"),
    ],
)
def test_what_a_form_sends_becomes_the_value_that_was_meant(minimal, name, value, comes_to):
    found = said_so(minimal, name, value)
    assert found == comes_to
    assert type(found) is type(comes_to)


@pytest.mark.parametrize(
    ("name", "value", "what", "remedy"),
    [
        ("lora_r", 2.7, "2.7 is not a whole number.", "Enter a whole number from 1 to 256."),
        ("lora_r", "2.7", "2.7 is not a whole number.", "Enter a whole number from 1 to 256."),
        ("lora_r", "many", "'many' is not a number.", "Enter a whole number from 1 to 256."),
        ("lora_r", 300, "300 is too large.", "Enter a whole number from 1 to 256."),
        ("lora_r", True, "true is not a number.", "Enter a whole number from 1 to 256."),
        ("lora_r", None, "A value is required.", "Enter a whole number from 1 to 256."),
        ("lora_r", "", "A value is required.", "Enter a whole number from 1 to 256."),
        ("lora_r", [16], "A list of 1 is not a number.", "Enter a whole number from 1 to 256."),
        ("lora_r", {"r": 1}, "A group of settings is not a number.", None),
        ("lora_r", float("nan"), "nan is not a finite number.", None),
        ("lora_r", "inf", "inf is not a finite number.", None),
        ("lora_r", "9" * 6000, "inf is not a finite number.", None),
        ("lora_r", 10**5000, "A number of about 5001 digits is too large.", None),
        ("lora_r", 1e308, "1e+308 is too large.", None),
        (
            "num_train_epochs",
            2**60,
            f"{2**60} is too large.",
            f"Enter a whole number from 1 to {2**53}.",
        ),
        ("max_steps", -(2**60), f"{-(2**60)} is too small.", "Enter a whole number of -1 or more."),
        ("learning_rate", 0, "0 is too small.", "Enter a number above 0 and at most 1."),
        ("learning_rate", "0,1", "'0,1' is not a number.", "Enter a number above 0 and at most 1."),
        ("learning_rate", 10**400, "A number of about 401 digits is too large.", None),
        (
            "weight_decay",
            float("inf"),
            "inf is not a finite number.",
            "Enter a number of 0 or more.",
        ),
        ("weight_decay", -1, "-1 is too small.", "Enter a number of 0 or more."),
        ("fp16", None, "null is neither true nor false.", "Enter true or false."),
        ("fp16", 3, "3 is neither true nor false.", "Enter true or false."),
        ("fp16", "", "'' is neither true nor false.", "Enter true or false."),
        (
            "strategy",
            "QLORA",
            "'QLORA' is not one of the choices.",
            "Choose sft, qlora, rlhf or dpo. Did you mean 'qlora'?",
        ),
        ("strategy", ["sft"], "A list of 1 is not one of the choices.", None),
        (
            "dataset",
            "   ",
            "'   ' is empty.",
            "Enter the training file, or sample:NAME for a bundled dataset.",
        ),
        ("model_name", 5, "5 is not text.", None),
        ("model_name", None, "A value is required.", None),
        ("model_name", "a\x00b", "'a\\x00b' contains a control character.", None),
        ("model_name", "\ud800", "The text contains characters that cannot be stored.", None),
        (
            "logging.run_name",
            "x" * 81,
            "The text is too long: 81 characters.",
            "Enter text of at most 80 characters, or leave it empty.",
        ),
        (
            "max_seq_length",
            "long",
            "'long' is not a number.",
            "Enter a whole number of -1 or more, or leave it empty.",
        ),
        ("trainer", 5, "5 is not a group of settings.", NAMED),
        ("trainer", [], "A list of 0 is not a group of settings.", None),
    ],
    ids=lambda value: shown(value)[:40],
)
def test_a_wrong_value_is_reported_with_its_bound_and_a_remedy(minimal, name, value, what, remedy):
    found = problem(minimal, **{name: value})
    assert (found.where, found.what) == (name, what)
    assert found.remedy.endswith((".", "?"))
    if remedy:
        assert found.remedy == remedy


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("learnin_rate", "Did you mean 'learning_rate'?"),
        ("epochs", "Did you mean 'num_train_epochs'?"),
        ("seed", "Did you mean 'trainer.seed'?"),
        ("hardware.devise", "Did you mean 'hardware.device'?"),
        ("Lora-R", "Did you mean 'lora_r'?"),
        ("zzz", "Remove it."),
        ("", "Remove it."),
        ("x" * 5000, "Remove it."),
        (5, "Remove it."),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(minimal, name, remedy):
    problems = find_problems(minimal | {name: 1})
    assert [found.remedy for found in problems] == [remedy]
    assert problems[0].what == "is not a setting (given by: form)."
    assert len(problems[0].where) <= 60


def test_an_unknown_key_in_a_group_is_refused(minimal):
    assert problem(minimal, trainer={"sead": 1}).remedy == "Did you mean 'trainer.seed'?"


def test_a_setting_given_twice_in_one_layer_is_refused(minimal):
    found = find_problems(minimal | {"trainer": {"seed": 1}, "trainer.seed": 2})
    assert [one.where for one in found] == ["trainer.seed"]
    assert not find_problems(minimal | {"trainer": {"seed": 1}, "trainer.seed": 1})


def test_a_value_refused_in_one_layer_may_be_corrected_by_a_later_one(minimal):
    config = resolve(
        Layer("profile", minimal | {"lora_r": "x"}), Layer("form", {"lora_r": 4})
    ).config
    assert config.lora_r == 4


HOSTILE = [
    0,
    -1,
    float("nan"),
    float("inf"),
    -float("inf"),
    1e308,
    -1e308,
    10**30,
    10**5000,
    "",
    " ",
    "x",
    "NaN",
    "1e999",
    "0x10",
    "9" * 10000,
    "\x00",
    "\ud800",
    "🙂" * 300,
    "../../etc/passwd",
    True,
    False,
    None,
    [],
    [[[]]],
    {},
    {"a": 1},
    b"1",
    object(),
    {1, 2},
    2.5,
]


@pytest.mark.parametrize("name", sorted(specs_by_name()))
def test_hostile_values_are_taken_or_refused_in_words(minimal, name):
    for value in HOSTILE:
        for found in find_problems(minimal | {name: value}):
            assert found.where.partition("[")[0] in specs_by_name()
            assert found.what.endswith(".")
            assert found.remedy
            assert len(str(found)) < 400


def test_a_wrong_depth_of_a_new_model_is_the_only_problem():
    stated = {"pretraining.enabled": True, "dataset": "a.txt", "compute_specs": "low_end"}
    [only] = find_problems(stated | {"pretraining.depth": 500})
    assert only.where == "pretraining.depth"
    assert "from 1 to 200" in only.remedy
