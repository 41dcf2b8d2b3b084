"""Models to chat with and to export, and the downloaded result."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from modelforge.errors import NotFoundError
from tests.runs.homes import put_run
from ui import routes
from ui.html import format as fmt
from ui.pages import model_picker
from ui.pages.export import choice
from ui.pages.run.live import RunFollower

QA = "extractive-question-answering"


def select(run):
    return model_picker.model_select([run], [], run.id, key="chat-model", label="Model")


@pytest.mark.parametrize(
    ("task", "method", "expected", "base"),
    [
        ("text-generation", "dpo", "conversation", "yes"),
        ("summarization", "seq2seq", "document", "yes"),
        (QA, "span", "passage", "no"),
        (QA, "sft", "passage", "yes"),
    ],
)
def test_each_kind_of_model_has_its_chat_format(ended_run, task, method, expected, base):
    drawn = select(ended_run(task=task, method=method))
    assert f'data-format="{expected}"' in drawn
    assert f'data-base="{base}"' in drawn


def test_a_whole_model_has_no_base_model_beside_it(forge, ended_run):
    run = ended_run(whole=True)
    assert [each.id for each in model_picker.runs_with_result(forge, "")] == [run.id]
    assert 'data-base="no"' in select(run)


def test_a_side_of_a_chat_knows_the_base_model_of_each_run(ended_run):
    run = ended_run(task="summarization", method="seq2seq")
    drawn = model_picker.side_select([run], [("a<b", "A<B")], "chat-other", "Compared with")
    base = run.config["model_name"]
    assert f'data-base="{base}"' in drawn
    assert 'data-format="document"' in drawn
    assert 'data-has-base="yes"' in drawn
    assert "A&lt;B · base model" in drawn
    assert model_picker.side_select([], [], "chat-other", "Compared with") == ""
    assert "Train a model" in model_picker.side_select([], [], "chat-model", "Model")


def test_a_selected_run_is_offered_however_old_it_is(forge, monkeypatch):
    runs = [put_run(forge.home.root, number) for number in range(3)]
    put_run(forge.home.root, 4, ending="failed")
    monkeypatch.setattr(model_picker, "MAX_OFFERED", 1)

    def offered(selected):
        return [run.id for run in model_picker.runs_with_result(forge, selected)]

    assert offered("") == offered("unknown") == [runs[0].id]
    assert offered(runs[2].id) == [runs[0].id, runs[2].id]


def test_a_whole_model_is_downloaded_as_one(forge, ended_run):
    run = ended_run(task=QA, method="span", whole=True)
    path = routes.zip_result(forge, run.id)
    try:
        with zipfile.ZipFile(path) as archive:
            assert f"{routes.zip_name(forge, run.id)[:-4]}/config.json" in archive.namelist()
    finally:
        path.unlink()
    assert routes.zip_name(forge, run.id).endswith("-model.zip")


def test_an_adapter_is_downloaded_as_one(forge, ended_run):
    run = ended_run(method="seq2seq")
    assert routes.zip_name(forge, run.id).endswith("-adapter.zip")


@pytest.mark.parametrize(
    "card", ["---\nbase_model: owner/name\n---\n", "---\n[broken\n---\n", None]
)
def test_a_downloaded_adapter_names_its_base_model_without_its_path(forge, ended_run, card):
    run = ended_run()
    output = forge.runs.folder(run.id).output
    stored = json.dumps({"base_model_name_or_path": run.plan.model_path, "r": 8})
    (output / "adapter_config.json").write_text(stored)
    if card:
        (output / "README.md").write_text(card)
    path = routes.zip_result(forge, run.id)
    folder = routes.zip_name(forge, run.id).removesuffix(".zip")
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read(f"{folder}/adapter_config.json"))
            texts = {name: archive.read(name) for name in archive.namelist()}
    finally:
        path.unlink()
    assert config == {"base_model_name_or_path": "starter", "r": 8}
    assert f"{folder}/base_model.json" in texts
    assert b"trained with ModelForge" in texts[f"{folder}/README.md"]
    home = str(Path(run.plan.model_path).parents[3]).encode()
    assert home == b"/home/me/.local"
    assert not [name for name, text in texts.items() if home in text]
    assert (output / "adapter_config.json").read_text() == stored


@pytest.mark.parametrize("method", ["dpo", "sft"])
def test_lists_of_models_name_the_method(forge, ended_run, method):
    run = ended_run(method=method)
    named = f"{run.name} · {run.plan.facts.label} · "
    assert named in select(run)
    assert named in choice.run_list([run] * 4)


def test_a_run_without_a_result_cannot_be_downloaded(forge, ended_run):
    run = ended_run()
    shutil.rmtree(forge.runs.folder(run.id).output)
    with pytest.raises(NotFoundError, match="has no model"):
        routes.zip_result(forge, run.id)


def test_every_page_shows_the_same_time_of_a_run_that_waited(ended_run, forge):
    run = ended_run()
    process = forge.home.runs / run.id / "process.json"
    process.write_text('{"pid": 999999, "birth": 1.0, "launched": 1700000000.5}', "utf-8")
    run = forge.runs.view(run.id)
    assert run.began == 1700000000.5 != run.created
    began = fmt.date(run.began)
    assert fmt.date(run.created) != began
    assert began in model_picker.model_select([run], [], run.id, key="k", label="Model")
    assert f"started {began}" in str(RunFollower(forge, run.id).update().parts["run-head"])
