"""The dialog Export settings: what is written of a form or a run, and what a system cannot say."""

from __future__ import annotations

import ast

import pytest

from ui.pages.train import settings_export


@pytest.fixture
def export(forge):
    functions = {function.__name__: function for function in settings_export.functions(forge)}
    return functions["export_settings"]


@pytest.fixture
def form(model):
    values = {"dataset": "sample:captain", "model_name": str(model), "max_steps": "5"}
    return {"values": values, "recipe": {"lora_r": 24}}


def test_the_form_is_written_for_a_system_and_what_it_cannot_say_is_listed(export, form):
    reply = export({**form, "to": "trl"})
    assert "lora_r: 24" in reply.text
    assert "max_steps: 5" in reply.text
    assert reply.file_name.endswith(".yaml")
    assert not reply.is_archive
    assert f"--config {reply.file_name}" in reply.shown
    assert 'value="trl" selected' in reply.shown
    # What an archive is made of is the same.
    assert reply.settings["lora_r"] == 24
    lossy = export({**form, "recipe": {"group_by_length": True}, "to": "surogate"})
    assert lossy.text
    assert "cannot be written for it" in lossy.shown
    assert 'group_<wbr>by_<wbr>length</th><td class="num">true' in lossy.shown


def test_a_form_from_nothing_becomes_a_command_of_nanochat(export, form):
    values = {"dataset": "sample:captain", "pretraining.enabled": "true", "pretraining.depth": "4"}
    reply = export({"values": values})
    assert "base_train" in reply.text
    assert "--depth=4" in reply.text
    assert (reply.file_name, reply.is_archive) == ("nanochat.sh", False)
    assert 'value="nanochat" selected' in reply.shown
    assert "With the rows" not in reply.shown
    assert 'data-from="command-line"' in reply.shown
    assert "With the rows" in export({**form, "to": "trl"}).shown
    assert "Export them to nanochat" in export({"values": values, "to": "trl"}).shown


def test_a_script_is_an_archive_with_its_rows(export, form):
    reply = export({**form, "to": "script"})
    ast.parse(reply.text)
    assert reply.is_archive
    assert "prepared rows are in the zip file" in reply.shown
    assert export({**form, "to": "llama-factory"}).is_archive


def test_a_run_is_written_as_it_trained(export, ended_run):
    run = ended_run()
    reply = export({"run": run.id, "to": "trl", "values": {"lora_r": "77"}})
    assert "77" not in reply.text
    assert run.config["model_name"] in reply.text


def test_settings_that_cannot_be_exported_say_why(export, form):
    reply = export({"values": {**form["values"], "lora_r": "0"}, "to": "trl"})
    assert reply.text == ""
    assert "0 is too small" in reply.shown
    assert "lora_r" in reply.shown
    assert export({**form, "to": "other"}).text == ""
