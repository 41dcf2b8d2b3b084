import json
import math
import os

import pytest

from modelforge.config.fields import field_specs
from modelforge.config.profiles import load_profiles, profile_settings
from modelforge.config.recipe import dump_recipe, load_recipe
from modelforge.config.resolve import Layer, resolve
from modelforge.errors import ConfigError, ForgeError, NotFoundError


@pytest.fixture
def written(tmp_path):
    """A recipe file with the given content."""

    def write(content, name="recipe.yaml"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refusal(path):
    with pytest.raises(ForgeError) as caught:
        load_recipe(path)
    assert len(caught.value.problems) == 1
    found = caught.value.problems[0]
    assert found.what.endswith(".")
    assert found.remedy
    return found


TEXTS = [
    "no", "yes", "on", "null", "~", "", "true", "2e-4", "1.5", ".5", "5.", "007", "0x10", "1:30",
    "2026-01-02", "1_000", "- a", "a: b", "a #b", "#a", "&a", "*a", "!a", "|", ">", "'", '"', "%",
    "@a", "`", "{a}", "[a]", " a ", "a\nb", "a\n", "\t", "C:\\data\\a.jsonl", "ünïcode ☠ 中文",
    "=", "<<", ".inf", ".nan", "-", "?", "x" * 500, "a b " * 90, "\u2028", "\x85", "🙂",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_a_text_comes_back_as_it_was(written, text):
    answers = {"model_name": text, "logging": {"run_name": text}}
    assert load_recipe(written(dump_recipe(answers))) == answers


@pytest.mark.parametrize(
    "number",
    [
        0,
        -1,
        10**15,
        5e-7,
        2e-4,
        1.41e-5,
        0.1 + 0.2,
        1e22,
        1e-300,
        1.7976931348623157e308,
        3.0,
        -0.5,
    ],
)
def test_a_number_comes_back_to_the_last_digit(written, number):
    back = load_recipe(written(dump_recipe({"x": number})))["x"]
    assert back == number
    assert type(back) is type(number)


def test_what_is_no_number_comes_back_as_that(written):
    back = load_recipe(written(dump_recipe({"a": math.nan, "b": math.inf, "c": -math.inf})))
    assert math.isnan(back["a"])
    assert (back["b"], back["c"]) == (math.inf, -math.inf)


@pytest.mark.parametrize("name", load_profiles())
def test_a_config_survives_the_way_through_a_recipe(written, name):
    rest = {"model_name": "starter", "dataset": "sample:captain", "trainer": {"seed": 7}}
    config = resolve(Layer("profile", profile_settings(name)), Layer("form", rest)).config
    recipe = load_recipe(written(dump_recipe(config.explicit_values())))
    again = resolve(Layer("recipe", recipe)).config
    assert again == config
    assert again.explicit_values() == config.explicit_values()


def test_every_default_survives_the_way_through_a_recipe(written):
    answers = {spec.name: spec.default for spec in field_specs()}
    assert load_recipe(written(dump_recipe(answers))) == answers


def test_an_object_that_occurs_twice_is_written_twice(written):
    shared = {"seed": 1}
    answers = {"trainer": shared, "other": shared}
    assert load_recipe(written(dump_recipe(answers))) == answers


def test_yaml_holds_few_surprises(written):
    path = written("a: no\nb: 2e-4\nc: 2026-01-02\nd: 1:30\ne: True\nf:\ng: 010\n")
    assert load_recipe(path) == {
        "a": "no",
        "b": 2e-4,
        "c": "2026-01-02",
        "d": "1:30",
        "e": True,
        "f": None,
        "g": "010",
    }


def test_a_json_body_is_a_recipe_too(written):
    body = {"task": "text-generation", "learning_rate": 2e-4, "trainer": {"seed": 1}}
    text = json.dumps(body, indent="\t")
    assert load_recipe(written(text, "body.json")) == body


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(written):
    assert load_recipe(written(b"\xef\xbb\xbflora_r: 8\r\nlora_alpha: 16\r\n")) == {
        "lora_r": 8,
        "lora_alpha": 16,
    }


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        ("a: 1\nb: [1\nc: 2\n", "recipe.yaml, line 3", "The recipe cannot be read"),
        ("a: 1\na: 2\n", "recipe.yaml, line 2, column 1", "'a' occurs twice"),
        ("a: &x 1\nb: *x\n", "recipe.yaml, line 2, column 4", "do not support aliases"),
        ("a: !!python/object:os.system {}\n", "recipe.yaml, line 1", "could not determine"),
        ("a: b: c\n", "recipe.yaml, line 1", "not allowed here"),
        ("? [a]\n: 1\n", "recipe.yaml, line 1", "must be text"),
        ("[" * 3000, "recipe.yaml, line 1", "nested more than 20 levels deep"),
        ("a: \x01\n", "recipe.yaml", "cannot be read"),
        (f"a: {'9' * 5000}\n", "recipe.yaml", "value cannot be read"),
        (b"\xff\xfea", "recipe.yaml", "not UTF-8 text (byte 0)"),
        ("", "recipe.yaml", "contains nothing"),
        ("# only a comment\n", "recipe.yaml", "contains nothing"),
        ("- a\n- b\n", "recipe.yaml", "contains a list"),
        ("hello\n", "recipe.yaml", "contains a single value"),
        ("---\na: 1\n---\nb: 2\n", "recipe.yaml, line 3", "another document"),
        ("x: " + "y" * (1024 * 1024), "recipe.yaml", "1.0 MiB; a recipe has at most 1.0 MiB"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_broken_recipe_is_reported_with_its_place(written, content, where, what):
    found = refusal(written(content))
    assert where in found.where
    assert what in found.what


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        ('{"a": 1,}', "body.json, line 1, column", "Invalid JSON"),
        ('{"a": 1, "a": 2}', "body.json", "'a' occurs twice"),
        ("[1]", "body.json", "contains a list"),
        ("[" * 100_000, "body.json", "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "body.json", "a number that is too long"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_broken_json_body_is_reported_with_its_place(written, content, where, what):
    found = refusal(written(content, "body.json"))
    assert where in found.where
    assert what in found.what


def test_a_missing_recipe_is_reported_with_its_path(tmp_path):
    with pytest.raises(NotFoundError, match="The file does not exist"):
        load_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 5000])
def test_a_name_that_cannot_be_one_is_refused(tmp_path, name):
    with pytest.raises(ForgeError):
        load_recipe(f"{tmp_path}/{name}")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_no_recipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="This is not a file"):
        load_recipe(tmp_path / "pipe")
