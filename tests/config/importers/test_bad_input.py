"""Files that cannot be imported: named with line and key, and nothing is taken."""

import math
import time

import pytest
import yaml

from modelforge.config.importers.foreign_file import ForeignFile
from modelforge.config.importers.read import SYSTEMS, import_settings
from modelforge.config.importers.system import System
from modelforge.config.recipe import MAX_BYTES
from modelforge.errors import ConfigError
from tests.config.importers.examples import example_files, problems_of, settings_of

SUROGATE = "model: acme/pine\nsample_packing: true\nlora_rank: 8\n"
VALUES = [
    *(
        True,
        False,
        0,
        1,
        -1,
        3.5,
        1e308,
        math.inf,
        math.nan,
        "",
        "word",
        "a,b",
        "1.5",
        "auto",
        None,
    ),
    *([], [1], ["x"], [{}], [None], [[1]], [{"path": 1}], [{"path": "x", "type": 3}]),
    *({}, {"a": 1}, {"path": ["x"]}, {"type": "dpo"}, {1: 2}),
]


def only_problem(text, system=None):
    problems = problems_of(text, system)
    assert len(problems) == 1, problems
    return problems[0]


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (f"{SUROGATE}lora_rank: 9\n", "file.yaml, line 4, column 1", "'lora_rank' occurs twice"),
        (
            "model: !!python/object/apply:os.system [ls]\n",
            "file.yaml, line 1, column 8",
            "it has the tag",
        ),
        ("model: &a x\ntemplate: *a\n", "file.yaml, line 2, column 11", "aliases"),
        ("a: " + "[" * 60 + "]" * 60, "file.yaml, line 1, column", "nested more than"),
        ("model: [1\nlora: true\n", "file.yaml, line ", "The file cannot be read"),
        ("- model\n- lora\n", "file.yaml", "contains no settings by name"),
        ("", "file.yaml", "contains no settings by name"),
        ("just text", "file.yaml", "contains no settings by name"),
        ("{}", "file.yaml", "not recognised"),
        ("? [a, b]\n: 1\n", "file.yaml, line 1, column 3", "name of a setting must be text"),
        ("model: x\n---\nmodel: y\n", "file.yaml, line ", "The file cannot be read"),
        ("a: \ud800\n", "file.yaml", "The file cannot be read"),
        (f"model: {'9' * 5000}\n", "file.yaml", "The file cannot be read"),
        ("a\x00b: 1\n", "file.yaml", "The file cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read(text, where, what):
    problem = only_problem(text)
    assert problem.where.startswith(where)
    assert what in problem.what
    assert problem.remedy


def test_a_file_of_an_unknown_system():
    problem = only_problem("colour: red\nshape: round\nlearning_rate: 1\n")
    assert "colour, shape and learning_rate" in problem.what
    assert all(system.title in problem.remedy for system in SYSTEMS)


def test_a_system_that_is_not_known():
    problem = only_problem(SUROGATE, "keras")
    assert problem.where == "system"
    assert "llama-factory" in problem.remedy


def test_a_mixture_of_two_systems_names_both_with_their_lines():
    text = f"{SUROGATE}validation_split_ratio: 0.1\nbase_model: x\nval_set_size: 0.2\n"
    problem = only_problem(text)
    assert problem.where == "file.yaml, line 5, base_model"
    assert problem.what.startswith("It is an option of Axolotl, ")
    assert "(line 2)" in problem.what or "(line 3)" in problem.what or "(line 4)" in problem.what


def test_a_value_out_of_range_has_the_line_of_its_option_and_not_that_of_a_default():
    text = "model_name_or_path: x\nstage: sft\nfinetuning_type: lora\nwarmup_ratio: 7\n"
    problem = only_problem(text)
    assert problem.where == "file.yaml, line 4, warmup_ratio"


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("trl sft --model-name-or-path x --learning-rate 1e-4", "learning_rate"),
        ("axolotl train a.yml --base-model x --learning-rate=1e-4", "learning_rate"),
    ],
)
def test_options_of_a_command_line_may_have_dashes(command, option):
    report = import_settings(command, "x").imported.report
    line = next(line for line in report if line.name == option and not line.is_default)
    assert line.setting == "learning_rate"


@pytest.mark.parametrize("program", ["axolotl train", "llamafactory-cli train", "trl sft"])
def test_a_file_that_a_command_line_names_has_a_line_of_the_report(program):
    report = import_settings(f"{program} a.yaml --learning_rate 1e-4", "x").imported.report
    line = next(line for line in report if line.name == "config")
    assert (line.value, line.result) == ("a.yaml", "refused")


def test_an_option_that_is_given_in_both_spellings_is_given_twice():
    problem = only_problem("trl sft --model_name_or_path x --learning_rate 1 --learning-rate 2")
    assert problem.what == "--learning-rate is given twice."


PAIRS = [(one.name, other.name) for one in SYSTEMS for other in SYSTEMS if one is not other]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_options_of_two_systems_in_one_file_are_refused(first, second):
    one, other = (_example(name) for name in (first, second))
    groups = {
        name: {**one[name], **other[name]}
        for name in one.keys() & other.keys()
        if isinstance(one[name], dict) and isinstance(other[name], dict)
    }
    problem = only_problem(yaml.safe_dump({**one, **other, **groups}, sort_keys=False))
    titles = [system.title for system in SYSTEMS if system.name in (first, second)]
    assert ", line " in problem.where
    assert any(title in problem.what for title in titles)


def _example(system):
    paths = [path for path in example_files(system) if path.suffix == ".yaml"]
    longest = max(paths, key=lambda path: path.stat().st_size)
    return yaml.safe_load(longest.read_text("utf-8"))


@pytest.mark.parametrize(
    ("option", "is_hidden"),
    [
        ("hub_token", True),
        ("hf_token", True),
        ("comet_api_key", True),
        ("env", True),
        ("eos_token", False),
        ("max_new_tokens", False),
    ],
)
def test_the_report_does_not_repeat_a_secret(option, is_hidden):
    text = f"model_name_or_path: x\n{option}: abc\n"
    report = import_settings(text, "x", "trl").imported.report
    line = next(line for line in report if line.name == option)
    assert line.value == ("…" if is_hidden else "abc")


def test_one_strange_option_is_a_line_of_the_report_with_the_name_that_is_near():
    imported = import_settings(f"{SUROGATE}lora_rnk: 3\n", "x").imported
    line = next(line for line in imported.report if line.name == "lora_rnk")
    assert (line.result, line.line) == ("refused", 4)
    assert line.why.endswith("Did you mean lora_rank?")


def test_options_that_two_systems_have_are_not_guessed():
    problem = only_problem("learning_rate: 1.0e-4\nweight_decay: 0.1\n")
    assert "--from" in problem.remedy


def test_all_problems_are_reported_at_once_and_nothing_is_taken():
    text = f"{SUROGATE}merge_adapter: 5\nqlora_bnb: true\nqlora_fp8: true\n"
    wheres = {problem.where for problem in problems_of(text)}
    assert {"file.yaml, line 4, merge_adapter", "file.yaml, line 6, qlora_fp8"} <= wheres
    with pytest.raises(ConfigError):
        import_settings(text, "file.yaml")


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_every_value_of_every_option_is_read_or_named(system: System):
    for name in system.options:
        for value in VALUES:
            file = ForeignFile("file", _nested(name, value, system), {})
            try:
                system.read(file).as_dict()
            except ConfigError as error:
                assert all(problem.what and problem.remedy for problem in error.problems)  # noqa: PT017


def _nested(name, value, system):
    """Return the values of a file with one option, inside of its groups."""
    top, rest = name.split(".", 1) if "." in name else (name, "")
    if rest and any(group == top or group.startswith(f"{top}.") for group in system.groups):
        head, _, last = rest.rpartition(".")
        inner = {head: {last: value}} if head else {last: value}
        return {top: inner}
    return {name: value}


def test_a_file_over_the_bound_is_refused():
    assert "Files of settings have up to" in only_problem("a: " + "x" * MAX_BYTES).remedy


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"lora_rang{n}: 1\n" for n in range(10_000)),
        "python -m scripts.base_train " + "--a=1 " * 100_000,
        "datasets:\n" + "  - path: x\n" * 10_000,
    ],
    ids=["options", "command", "sources"],
)
def test_many_options_end_soon(text):
    start = time.monotonic()
    assert problems_of(text, "surogate")
    assert time.monotonic() - start < 20


def test_unknown_names_are_compared_in_bounded_time():
    text = SUROGATE + "".join(f"{'lora_target_' * 8}{n}: 1\n" for n in range(480))
    start = time.monotonic()
    assert settings_of(text, "surogate")
    assert time.monotonic() - start < 10


def test_words_for_true_and_false_are_those_of_yaml():
    settings = settings_of(f"{SUROGATE}lora: off\npadding_free: yes\n")
    assert settings["adapter.enabled"] is False
    assert settings["data.padding_free"] is True
