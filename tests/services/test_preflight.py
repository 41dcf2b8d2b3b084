"""Models in a check: cached by the state of their files."""

import json
import os

import pytest

from modelforge.cli.recipe import PATHS
from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.models import hub
from modelforge.models.resolve import model_stamp
from modelforge.paths import Home
from modelforge.services import preflight
from modelforge.services.chat_client import ChatModelSpec
from tests.models.test_resolve import LLAMA, safetensors, write


@pytest.fixture
def forge(tmp_path):
    made = Forge(Home(tmp_path / "home"), warm_worker=["true"])
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "model", LLAMA)


def test_a_repaired_model_folder_is_read_again(forge, folder):
    assert not forge.preflight.model(str(folder)).has_chat_template
    (folder / "chat_template.jinja").write_text("{{ messages }}", "utf-8")
    assert forge.preflight.model(str(folder)).has_chat_template
    (folder / "generation_config.json").write_text('{"temperature": 0.5}', "utf-8")
    assert forge.preflight.model(str(folder)).generation_fields
    (folder / "generation_config.json").unlink()
    assert not forge.preflight.model(str(folder)).generation_fields
    (folder / "config.json").write_text(json.dumps(LLAMA | {"num_hidden_layers": 2}), "utf-8")
    assert forge.preflight.model(str(folder)).layers == 2
    grown = safetensors({"model.embed_tokens.weight": [100, 16]})
    (folder / "model.safetensors").write_bytes(grown)
    assert forge.preflight.model(str(folder)).parameters == 1600


def test_an_unchanged_model_is_read_once(forge, folder, monkeypatch):
    read = []

    def resolve(name, home):
        read.append(name)
        return resolve_model(name, home)

    resolve_model = preflight.resolve_model
    monkeypatch.setattr(preflight, "resolve_model", resolve)
    assert forge.preflight.model(str(folder)) is forge.preflight.model(str(folder))
    assert read == [str(folder)]


def test_a_model_of_the_hub_is_looked_up_again_once_its_weights_are_here(
    forge, tmp_path, monkeypatch
):
    snapshot = tmp_path / "snapshot"
    monkeypatch.setattr(hub, "cached_folder", lambda *_: snapshot if snapshot.exists() else None)
    assert model_stamp("owner/name", forge.home) == ()
    write(snapshot, LLAMA, {"tokenizer.json": b"{}"})
    assert model_stamp("owner/name", forge.home) == ()
    write(snapshot, LLAMA)
    assert model_stamp("owner/name", forge.home)


def test_the_chat_loads_a_model_again_whose_files_have_changed(folder):
    before = ChatModelSpec(str(folder))
    assert before == ChatModelSpec(str(folder))
    assert "stamp" not in before.as_dict()
    (folder / "tokenizer_config.json").write_text("{}", "utf-8")
    assert before != ChatModelSpec(str(folder))


ODD = {
    "no such user": "~nosuchuser/x",
    "long name": "x" * 300,
    "deep": "a/" * 400,
    "loop": "loop",
    "dangling": "dangling",
    "pipe": "pipe.jinja",
    "device": "/dev/null",
    "under a file": "rows.jsonl/x",
    "zero byte": "a\0b",
    "not UTF-8": os.fsdecode(b"n\xff.jinja"),
    "dots": "...",
    "share": "\\\\server\\share",
}


@pytest.mark.skipif(os.name == "nt", reason="links and devices of Unix")
@pytest.mark.parametrize("odd", ODD.values(), ids=list(ODD))
@pytest.mark.parametrize("name", PATHS)
def test_an_odd_path_in_any_setting_is_a_problem_of_that_setting(
    forge, folder, tmp_path, monkeypatch, name, odd
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.jinja")
    rows = "".join(json.dumps({"prompt": f"{n}?", "completion": f"{n}."}) + "\n" for n in range(9))
    (tmp_path / "rows.jsonl").write_text(rows, "utf-8")
    settings = {
        "task": "text-generation",
        "strategy": "rlhf" if name == "trainer.reward_model" else "sft",
        "model_name": str(folder),
        "dataset": "rows.jsonl",
        "compute_specs": "low_end",
        "use_4bit": False,
    }
    if name == "trainer.reward_model":
        settings["trainer.reward"] = "model"
    checked = forge.preflight.check(Layer("you", settings | {name: odd}))
    findings = checked.report.findings if checked.report else []
    blockers = [finding for finding in findings if finding.level == "blocker"]
    assert name in {problem.where for problem in (*checked.problems, *blockers)}
    for problem in (*checked.problems, *blockers):
        assert problem.what
        assert problem.remedy
