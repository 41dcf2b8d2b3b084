"""What can be served: runs, finished exports of every format, base models."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace

import pytest

from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.models.fingerprint import fingerprint
from modelforge.runs.atomic_files import write_json
from modelforge.runs.checkpoints import write_manifest
from modelforge.runs.layout import RunFolder
from modelforge.services.chat_client import ChatModelSpec
from modelforge.serving import targets
from modelforge.serving.targets import api_name, find_target
from tests.serving.conftest import make_export, write_weights

RUN = ChatModelSpec(
    "base", "adapter", "cuda", "main", run="/runs/one", system="You are Nora.", task="summarization"
)


class Chat:
    """Knows one run, also as the one of every export."""

    def __init__(self, spec=RUN):
        self.spec = spec

    def find_model(self, what, checkpoint=None):
        if self.spec is None:
            raise NotFoundError(Problem("model", f"There is no {what}.", "Choose another."))
        if checkpoint is not None:
            return replace(self.spec, adapter=str(checkpoint)), "Captain · two"
        return self.spec, "Captain · two"


def gguf(folder):
    (folder / "captain-Q4_K_M.gguf").write_bytes(b"GGUF")


def adapter(folder):
    inner = folder / "captain"
    inner.mkdir()
    (inner / "adapter_config.json").write_text("{}")


def test_a_run_is_served_under_a_name_for_the_api(home):
    target = find_target("20260101-000000-aaaa", home, Chat())
    assert (target.spec, target.kind, target.model) == (RUN, "adapter", "captain-two")
    for name in ("20260101-000000-aaaa", "Captain · two", "captain-two"):
        assert target.knows(name)
    assert not target.knows("captain")


def test_a_checkpoint_is_served_by_its_run_and_step(home):
    folder = RunFolder(home.runs / "one")
    for step, stage in ((2, None), (4, None), (6, 1)):
        made = folder.checkpoints / f"checkpoint-{step}"
        made.mkdir(parents=True)
        write_manifest(made, step=step, stage=stage)
    write_json(folder.config, {})
    target = find_target("one:2", home, Chat())
    assert target.spec.adapter == str(folder.checkpoints / "checkpoint-2")
    assert (target.name, target.model) == ("Captain · two · step 2", "captain-two-step-2")
    assert target.knows("one:2")
    for absent in ("one:3", "one:6"):
        with pytest.raises(NotFoundError, match="Its steps are: 4, 2"):
            find_target(absent, home, Chat())
    with pytest.raises(NotFoundError, match="no run, export or base model"):
        find_target("two:2", home, Chat(None))


def test_a_gguf_file_has_the_system_message_and_the_task_of_its_run(home):
    folder = make_export(home, "one", gguf, format="gguf", quantization="q8_0")
    target = find_target("one", home, Chat())
    assert target.kind == "gguf"
    assert target.name == "Captain · two · GGUF Q8_0"
    assert target.spec.model_path == str(folder.files / "captain-Q4_K_M.gguf")
    assert (target.spec.system, target.spec.task) == ("You are Nora.", "summarization")
    assert (target.spec.adapter, target.spec.run, target.spec.revision) == (None, None, None)


def test_the_export_of_a_deleted_run_is_served(home):
    make_export(home, "one", gguf, format="ollama", facts={"device": "cpu"})
    target = find_target("one", home, Chat(None))
    assert (target.kind, target.spec.system, target.spec.device) == ("gguf", None, "cpu")


def test_a_merged_model_is_a_whole_model(home):
    folder = make_export(home, "one", lambda files: write_weights(files / "m"), format="merged")
    target = find_target("one", home, Chat())
    assert target.kind == "model"
    assert target.spec.model_path == str(folder.files / "m")
    assert (target.spec.adapter, target.spec.run) == (None, None)


def test_an_adapter_needs_its_base_model(home, tmp_path):
    base = tmp_path / "base"
    facts = {"base_path": str(base), "base_name": "org/base", "base_revision": "abc"}
    folder = make_export(home, "one", adapter, format="adapter", facts=facts)
    with pytest.raises(NotFoundError, match="base model of this adapter, org/base, is not at"):
        find_target("one", home, Chat())
    base.mkdir()
    spec = find_target("one", home, Chat()).spec
    assert (spec.model_path, spec.adapter) == (str(base), str(folder.files / "captain"))
    assert spec.revision == "abc"


def test_an_adapter_is_not_served_on_another_base_model(home, tmp_path):
    write_weights(base := tmp_path / "base")
    known = fingerprint(base)
    facts = {"base_path": str(base), "base_name": "org/base", "base_hash": known}
    make_export(home, "one", adapter, format="adapter", facts=facts)
    run = RunFolder(home.runs / "20260101-000000-aaaa")
    run.path.mkdir(parents=True)
    write_json(run.config, {"base": {"name": "org/base", "hash": known}})
    spec = replace(RUN, model_path=str(base), revision=None)
    for what in ("one", run.id):
        assert find_target(what, home, Chat(spec)).spec.model_path == str(base)
    (base / "config.json").write_text('{"model_type": "qwen2"}', "utf-8")
    for what in ("one", run.id):
        with pytest.raises(ConfigError, match="is not the one of the training any more"):
            find_target(what, home, Chat(spec))
    shutil.rmtree(base)
    for what in ("one", run.id):
        with pytest.raises(NotFoundError, match=f"org/base, is not at {base} any more"):
            find_target(what, home, Chat(spec))


def test_a_deleted_run_is_named_with_its_remedy(home):
    (home.runs / ".deleted" / "20260101-y").mkdir(parents=True)
    with pytest.raises(NotFoundError, match=r"was deleted\. Restore it first: .* 20260101-y"):
        find_target("20260101-y", home, Chat(None))


def test_an_export_that_is_not_usable_is_refused(home):
    make_export(home, "bad", gguf, result="failed", format="gguf")
    with pytest.raises(NotFoundError, match="not usable"):
        find_target("bad", home, Chat())
    make_export(home, "empty", lambda _files: None, format="hub")
    with pytest.raises(NotFoundError, match="no model on this computer"):
        find_target("empty", home, Chat())


def test_an_export_whose_upload_failed_is_served(home):
    folder = make_export(home, "one", gguf, result="failed", format="hub", content="gguf")
    target = find_target("one", home, Chat())
    assert target.spec.model_path == str(folder.files / "captain-Q4_K_M.gguf")


def test_a_mistyped_id_is_named_as_what_it_could_be(home):
    wanted = r"no run, export or base model '20260101-x'.*`modelforge exports list`"
    with pytest.raises(NotFoundError, match=wanted):
        find_target("20260101-x", home, Chat(None))
    # A name of the Hub, a folder, a run without a result and a missing starter have their own text.
    (home.runs / "20260101-y").mkdir(parents=True)
    for what in ("org/model", "../model", "20260101-y", "starter"):
        with pytest.raises(NotFoundError, match=r"There is no .*Choose another"):
            find_target(what, home, Chat(None))


@pytest.mark.parametrize("what", ["../exports/one", "one/../one", "", "."])
def test_an_export_is_named_by_its_id_alone(home, what):
    make_export(home, "one", gguf, format="gguf")
    with pytest.raises(NotFoundError):
        find_target(what, home, Chat(None))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Captain · SmolLM2-135M", "captain-smollm2-135m"),
        ("  É tude! ", "e-tude"),
        ("日本", "model"),
        ("x" * 200, "x" * 60),
        ("../../etc", "etc"),
        ("Qwen2.5", "qwen2.5"),
    ],
)
def test_names_for_the_api_are_plain(name, wanted):
    assert api_name(name) == wanted


def test_vllm_is_offered_for_whole_models_where_it_is_installed(home, monkeypatch):
    folder = make_export(home, "a b", write_weights, format="merged")
    make_export(home, "one", gguf, format="gguf")
    whole, file = (find_target(each, home, Chat()) for each in ("a b", "one"))
    monkeypatch.setattr(targets.shutil, "which", lambda _name: None)
    assert whole.vllm(8001) == ""
    monkeypatch.setattr(targets.shutil, "which", lambda name: f"/bin/{name}")
    assert shlex.split(whole.vllm(8001))[:3] == ["vllm", "serve", str(folder.files)]
    assert file.vllm(8001) == ""
