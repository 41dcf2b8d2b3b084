"""Sources: what may be said of one, how it is refused, and that recipes keep all of it."""

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.recipe import dump_recipe, load_recipe
from modelforge.config.resolve import Layer, resolve
from modelforge.config.schema.data import Source
from tests.config.problems import find_problems

GROUND = PlanContext(device="cpu", model_path="x", train_rows=100)
WHOLE = {
    "data": {
        "sources": [
            {
                "path": "hub:tatsu-lab/alpaca",
                "type": "instruction",
                "subset": "en",
                "split": "train[:10%]",
                "samples": 500,
                "weight": 0.5,
                "instruction_field": "frage",
                "input_field": "dazu",
                "output_field": "antwort",
                "system_prompt_type": "fixed",
                "system_prompt": "Be brief.\n\tNo: really, # brief.\n",
                "prompt_format": "{system}\n\n{instruction}\n{input}\n{{x}}: {output}",
                "prompt_format_no_input": "{instruction}\n{output}",
            },
            {
                "path": "C:\\chats ☠.jsonl",
                "type": "conversation",
                "messages_field": "conversations",
                "system_field": "sys",
                "unused_columns": ["history", "a, b"],
                "tools_field": "tools",
                "message_property_mappings": {"role": "from", "content": "value"},
            },
        ],
        "validation_sources": [{"path": "held.csv", "text_field": "no"}],
        "loss_on": "assistant",
        "truncation_strategy": "delete",
    },
    "model": {"chat_template": "llama3", "system_prompt": "a\nb"},
}


def refusals(minimal, *sources):
    return find_problems(minimal | {"data": {"sources": list(sources)}})


def test_without_sources_the_dataset_is_the_source(minimal):
    assert resolve(Layer("a", minimal)).config.sources() == [Source(path="sample:captain")]


def test_a_recipe_keeps_sources_without_loss(minimal, tmp_path):
    answers = minimal | WHOLE
    given = resolve(Layer("recipe", answers)).config.explicit_values()
    assert given == answers
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(given), encoding="utf-8")
    assert load_recipe(path) == answers
    assert resolve(Layer("recipe", load_recipe(path))).config.explicit_values() == given


def test_the_origin_of_a_list_is_the_layer_that_gave_it(minimal):
    resolved = resolve(Layer("recipe", minimal | WHOLE), Layer("form", {"data.sources": []}))
    assert resolved.config.data.sources == []
    assert resolved.origins["data.sources"] == "form"
    assert resolved.origins["data.validation_sources"] == "recipe"


def test_names_with_commas_are_a_list(minimal):
    for text, names in (("system, tools", ["system", "tools"]), ("", []), (["a, b"], ["a, b"])):
        sources = [{"path": "a", "unused_columns": text}]
        (source,) = resolve(Layer("you", minimal | {"data.sources": sources})).config.data.sources
        assert source.unused_columns == names


def test_text_from_a_form_becomes_numbers(minimal):
    sources = [{"path": "a", "samples": "20", "weight": " 2 ", "text_field": ""}]
    (source,) = resolve(Layer("form", minimal | {"data.sources": sources})).config.data.sources
    assert (source.samples, source.weight, source.text_field) == (20, 2.0, None)


def test_text_from_a_form_becomes_the_settings_of_a_chat(minimal):
    sources = [{"path": "a", "chat_person": "Ben", "chat_pause": "2", "chat_mask": "true"}]
    (source,) = resolve(Layer("form", minimal | {"data.sources": sources})).config.data.sources
    assert (source.chat_person, source.chat_pause, source.chat_mask) == ("Ben", 2.0, True)


WRONG = [
    ({"path": "a", "chat_person": "a" * 201}, "chat_person", "too long"),
    ({"path": "a", "chat_pause": 0}, "chat_pause", "0 is too small."),
    ({"path": "a", "chat_pause": 8761}, "chat_pause", "too large"),
    ({"path": "a", "chat_mask": "some"}, "chat_mask", "some"),
    ({"path": "a", "sheet": "a" * 101}, "sheet", "too long"),
    ({}, "path", "A value is required."),
    ({"path": ""}, "path", "empty"),
    ({"path": 7}, "path", "7 is not text."),
    ({"path": "a\x00b"}, "path", "control character"),
    ({"path": "a", "typ": "text"}, "typ", "is not a setting of a source"),
    ({"path": "a", "type": "chat"}, "type", "not one of the choices"),
    ({"path": "a", "samples": 0}, "samples", "0 is too small."),
    ({"path": "a", "samples": 1.5}, "samples", "not a whole number"),
    ({"path": "a", "weight": 0}, "weight", "0 is too small."),
    ({"path": "a", "weight": float("nan")}, "weight", "not a finite number"),
    ({"path": "a", "weight": 101}, "weight", "too large"),
    (
        {"path": "a", "message_property_mappings": "role"},
        "message_property_mappings",
        "is not a mapping",
    ),
    (
        {"path": "a", "message_property_mappings": {"sender": "x"}},
        "message_property_mappings",
        "Messages have no property 'sender'.",
    ),
    (
        {"path": "a", "message_property_mappings": {"role": 1}},
        "message_property_mappings",
        "key of role is missing",
    ),
    ({"path": "a", "type": "text", "output_field": "b"}, "output_field", "has no output_field"),
    ({"path": "a", "type": "text", "prompt_format": "{instruction}"}, "prompt_format", "has no"),
    ({"path": "a", "text_field": "t", "output_field": "b"}, "output_field", "other columns"),
    ({"path": "a", "type": "instruction", "tools_field": "b"}, "tools_field", "has no tools_field"),
    (
        {"path": "a", "instruction_field": "b", "output_field": "b"},
        "output_field",
        "The column b is used twice, also as instruction_field.",
    ),
    ({"path": "a", "unused_columns": 5}, "unused_columns", "5 is not allowed."),
    ({"path": "a", "unused_columns": [7]}, "unused_columns", "7 is not text."),
    ({"path": "a", "unused_columns": [""]}, "unused_columns", "'' is empty."),
    (
        {"path": "a", "output_field": "b", "unused_columns": ["c", "b"]},
        "unused_columns",
        "The column b is set as unused and used as output_field.",
    ),
    (
        {
            "path": "a",
            "system_prompt_type": "field",
            "system_prompt_field": "system",
            "unused_columns": ["system"],
        },
        "unused_columns",
        "used as system_prompt_field",
    ),
    ({"path": "a", "system_prompt_type": "fixed"}, "system_prompt", "is not given"),
    ({"path": "a", "system_prompt_type": "field"}, "system_prompt_field", "is not given"),
    ({"path": "a", "system_prompt": "x"}, "system_prompt_type", "system_prompt_type is none"),
    (
        {
            "path": "a",
            "messages_field": "m",
            "system_field": "s",
            "system_prompt_type": "fixed",
            "system_prompt": "x",
        },
        "system_field",
        "two sources",
    ),
    ({"path": "a", "prompt_format": "{instruction} {x}"}, "prompt_format", "{x} at line 1"),
    (
        {"path": "a", "prompt_format_no_input": "{instruction} {input}"},
        "prompt_format_no_input",
        "{input} at line 1, column 15 is not a placeholder.",
    ),
    ({"path": "a.csv", "subset": "en"}, "subset", "not a Hub dataset"),
    ({"path": "a.csv", "split": "test"}, "split", "not a Hub dataset"),
]
FINE = [
    {"path": "a", "type": "text", "text_field": "body", "samples": 1, "weight": 100},
    {"path": "a", "split": "train"},
    {"path": "hub:a/b", "subset": "en", "split": "test[:100]"},
    {"path": "a", "system_prompt_type": "field", "system_prompt_field": "s"},
    {"path": "a", "system_prompt_type": "fixed", "system_prompt": "x", "output_field": "o"},
    {"path": "a", "messages_field": "m", "system_field": "s", "tools_field": "t"},
    {"path": "a", "message_property_mappings": {"role": "from", "tool_calls": "calls"}},
    {"path": "a", "message_property_mappings": {}},
    {"path": "a", "prompt_format": "{instruction}"},
    {"path": "a", "instruction_field": "b"},
]


@pytest.mark.parametrize(("source", "name", "message"), WRONG, ids=str)
def test_what_cannot_be_is_refused_by_the_name_of_the_entry(minimal, source, name, message):
    (problem,) = refusals(minimal, {"path": "good.csv"}, source)
    assert problem.where == f"data.sources[1].{name}"
    assert message in problem.what
    assert problem.remedy


@pytest.mark.parametrize("source", FINE, ids=str)
def test_what_can_be_is_taken(minimal, source):
    assert refusals(minimal, source) == []


def test_all_problems_of_all_sources_come_at_once(minimal):
    found = refusals(minimal, {"typ": 1}, {"path": "a", "subset": "en"}, "b.csv", {"path": "c"})
    assert [problem.where for problem in found] == [
        "data.sources[0].typ",
        "data.sources[0].path",
        "data.sources[2]",
        "data.sources[1].subset",
    ]


@pytest.mark.parametrize("value", ["a.csv", 1, {"path": "a"}, [{"path": "a"}] * 101])
def test_anything_but_a_list_of_sources_is_refused(minimal, value):
    (problem,) = find_problems(minimal | {"data.sources": value})
    assert problem.where == "data.sources"


def test_an_empty_list_as_yaml_writes_it_says_nothing(minimal):
    assert resolve(Layer("a", minimal | {"data": {"sources": None}})).config.data.sources == []


def test_validation_sources_replace_the_split_and_are_still_checked_on(minimal):
    config = resolve(Layer("a", minimal | {"data": {"validation_sources": [{"path": "v"}]}})).config
    plan = make_plan(config, GROUND)
    (change,) = [change for change in plan.changes if change.where == "eval_split"]
    assert (change.configured, change.used) == (0.2, 0)
    assert plan.eval_steps
    quiet = resolve(Layer("a", minimal | {"eval_split": 0})).config
    assert make_plan(quiet, GROUND).eval_steps is None


def test_a_dataset_beside_other_sources_is_reported_as_not_read(minimal):
    def changes(path):
        config = resolve(Layer("a", minimal | {"data": {"sources": [{"path": path}]}})).config
        return [c.used for c in make_plan(config, GROUND).changes if c.where == "dataset"]

    assert changes("other.csv") == ["data.sources"]
    assert changes("sample:captain") == []
