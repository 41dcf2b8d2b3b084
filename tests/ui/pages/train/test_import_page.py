"""Import on the Train page: what a file holds, its report, the plan, and what the form keeps."""

from __future__ import annotations

import re

import pytest

from ui.pages.train import import_page
from ui.pages.train.import_report import breakable, file_value, words

SUROGATE = """\
model: acme/pine
datasets:
  - path: letters.jsonl
    type: instruction
sample_packing: true
lora_rank: 8
learning_rate: 1e-4
recipe: nvfp4
colour: <b>red</b>
"""
FORM = {"values": {"dataset": "sample:captain", "model_name": "starter", "lora_r": "24"}}


@pytest.fixture
def functions(forge):
    return {function.__name__: function for function in import_page.functions(forge)}


@pytest.fixture
def read(functions):
    def read(text, name="theirs.yaml", **more):
        return functions["read_settings"]({**FORM, "text": text, "name": name, **more})

    return read


def plain(html):
    return " ".join(re.sub(r"<[^>]*>", " ", html.replace("<wbr>", "")).split())


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("mine.yaml", "lora_r: 8\ndataset: sample:captain\n", "recipe"),
        ("mine.json", '{"lora_r": 8}', "recipe"),
        ("theirs.yaml", SUROGATE, "foreign"),
        ("theirs.json", '{"sample_packing": true, "lora_rank": 8}', "foreign"),
        ("broken.yaml", "lora_r: [\n", "foreign"),
        ("rows.json", '{"data": [{"question": "a", "answer": "b"}]}', "data"),
    ],
)
def test_a_dropped_file_is_a_recipe_settings_of_another_program_or_data(
    functions, name, text, kind
):
    assert functions["settings_kind"]({"name": name, "text": text}).kind == kind


def test_every_option_has_a_line_with_its_result_and_reason(read):
    reply = read(SUROGATE)
    assert reply.is_read
    assert reply.title == "Surogate"
    table = reply.parts["import-options"]
    text = plain(table)
    assert "What becomes of its 9 options" in text
    assert "datasets: 1 entry converted Data: letters.jsonl" in text.replace(" :", ":")
    rows = [plain(row) for row in table.split("<tr")]
    nvfp4 = next(row for row in rows if "recipe: nvfp4" in row)
    assert "8 recipe: nvfp4 refused left out PyTorch cannot train with FP4" in nvfp4
    rank = next(row for row in rows if "lora_rank: 8" in row)
    assert "renamed LoRA rank: 8 lora_r" in rank
    # What needs a look comes first.
    assert table.index("nvfp4") < table.index("sample_<wbr>packing")
    assert "&lt;b&gt;red&lt;/b&gt;" in table
    assert "values of Surogate where the file says nothing" in text
    assert "Recognised by" in plain(reply.parts["import-system"])


def test_the_changes_name_the_line_or_the_default_they_come_from(read):
    changes = read(SUROGATE).parts["import-changes"]
    rows = [plain(f"<tr{row}") for row in changes.split("<tr")]
    assert "LoRA rank 24 8 line 6" in rows
    assert "Data sample:captain letters.jsonl line 2" in rows
    assert any(row.endswith("default of Surogate") for row in rows)


def test_the_form_keeps_its_data_and_model_on_request(read):
    named = read(SUROGATE)
    assert named.values == {}
    assert named.recipe["model_name"] == "acme/pine"
    assert "Keep the data of the form" in plain(named.parts["import-plan"])
    kept = read(SUROGATE, keep=["data", "model"])
    assert kept.values == {
        "dataset": "sample:captain",
        "model_name": "starter",
        "data.sources": [],
    }
    changes = plain(kept.parts["import-changes"])
    assert "letters.jsonl" not in changes
    # A file that names neither offers nothing to keep.
    assert "Keep the" not in plain(
        read("sample_packing: true\nlora_rank: 8\n").parts["import-plan"]
    )


def test_what_the_form_will_ask_for_is_said_before(read):
    plan = plain(read(SUROGATE).parts["import-plan"])
    assert "The form will ask for this" in plan
    assert "letters.jsonl" in plan
    assert "2 refused" in plan
    assert "recipe : left out" in plan


def test_a_command_line_is_read_without_a_name(read):
    reply = read("trl sft --model_name_or_path acme/pine --learning_rate 2e-4", name="")
    assert reply.title == "TRL"
    assert "the command line" in plain(reply.parts["import-lead"])


def test_an_unreadable_file_names_line_and_key_and_takes_nothing(read):
    reply = read("sample_packing: true\nlora_rank: 8\nlora_rank: 9\n")
    assert not reply.is_read
    assert reply.recipe == {}
    found = plain(reply.parts["import-system"])
    assert "Nothing is taken" in found
    assert "line 3" in found
    assert reply.parts["import-changes"] == ""
    unknown = read("colour: red\nsize: 3\n")
    assert "not recognised" in plain(unknown.parts["import-system"])
    assert not read("").is_read


def test_a_file_is_read_as_the_chosen_system(read):
    # Two systems have these options.
    text = "learning_rate: 1e-4\nmax_steps: 10\n"
    assert not read(text).is_read
    reply = read(text, system="surogate")
    assert reply.title == "Surogate"
    assert "Read as you have chosen." in plain(reply.parts["import-system"])
    assert 'value="surogate" selected' in reply.parts["import-system"]


def test_values_are_written_for_people():
    assert words(None, True) == "on"
    assert words(None, None) == "none"
    assert words(None, 2048) == "2,048"
    assert words(None, "1e-4") == "1e-4"
    assert words(None, [{"path": "a.csv"}, {"path": "b.csv"}]) == "a.csv, b.csv"
    assert file_value(True) == "true"
    assert file_value(["all-linear"]) == '["all-linear"]'
    assert len(file_value("x" * 500)) == 90
    assert breakable("a_b.c<") == "a_<wbr>b.<wbr>c&lt;"


def test_data_of_llama_factory_is_named_by_the_info_that_is_dropped_with_it(read):
    text = "model_name_or_path: a/b\nstage: sft\nfinetuning_type: lora\ndataset: letters\n"
    assert "Enter its path" in read(text).parts["import-options"]
    info = '{"letters": {"file_name": "letters.json", "columns": {"prompt": "ask"}}}'
    reply = read(text, dataset_info=info)
    assert reply.recipe["data"]["sources"][0]["path"] == "letters.json"
    assert reply.recipe["data"]["sources"][0]["instruction_field"] == "ask"
    wrong = read(text, dataset_info="{")
    assert not wrong.is_read
    assert "dataset_info.json" in wrong.parts["import-system"]
