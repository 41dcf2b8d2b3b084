"""The checkpoint that a new run resumes from: by run, by step, by folder, or the newest."""

from __future__ import annotations

import json

import pytest

from modelforge.config.resolve import Layer, resolve
from modelforge.errors import ConfigError, NotFoundError
from modelforge.paths import Home
from modelforge.runs import checkpoints
from modelforge.services.checkpoints.source import find_resume_source

BASE = {"task": "text-generation", "model_name": "starter", "dataset": "rows.jsonl"}
BASE |= {"compute_specs": "low_end"}


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def save(home, name, steps, stage=None, **settings):
    """Write a run with checkpoints of these steps."""
    folder = home.runs / name
    folder.mkdir(parents=True)
    config = {**BASE, **settings}
    (folder / "config.json").write_text(json.dumps({"config": config}), "utf-8")
    for step in steps:
        made = folder / "checkpoints" / f"checkpoint-{step}"
        made.mkdir(parents=True)
        (made / "trainer_state.json").write_text("{}", "utf-8")
        checkpoints.write_manifest(made, step=step, stage=stage)
    return folder


def found(home, value, **settings):
    config = resolve(
        Layer("form", {**BASE, **settings, "trainer.resume_from_checkpoint": value})
    ).config
    source = find_resume_source(config, home)
    return None if source is None else (source.parent.parent.name, source.name)


def test_a_run_a_step_of_it_and_a_folder_are_found(home):
    folder = save(home, "20260101-000000-aaaa", [4, 8, 12])
    assert found(home, folder.name) == (folder.name, "checkpoint-12")
    assert found(home, f"{folder.name}:8") == (folder.name, "checkpoint-8")
    own = str(folder / "checkpoints" / "checkpoint-4")
    assert found(home, own) == (folder.name, "checkpoint-4")
    (folder / "checkpoints" / "checkpoint-12" / "trainer_state.json").unlink()
    assert found(home, folder.name) == (folder.name, "checkpoint-8")


@pytest.mark.parametrize("value", [True, "true", "Newest", "yes"])
def test_the_newest_is_that_of_a_run_with_the_same_model_and_data(home, value):
    assert found(home, value) is None
    old = save(home, "20260101-000000-aaaa", [4, 8])
    save(home, "20260102-000000-bbbb", [6], model_name="another")
    save(home, "20260103-000000-cccc", [7], dataset="others.jsonl")
    assert found(home, value) == (old.name, "checkpoint-8")
    assert found(home, 4) == (old.name, "checkpoint-4")
    assert found(home, "6", model_name="another")[1] == "checkpoint-6"


@pytest.mark.parametrize("value", [False, "false", None, ""])
def test_off_begins_at_the_beginning(home, value):
    save(home, "20260101-000000-aaaa", [4])
    assert found(home, value) is None


@pytest.mark.parametrize(
    "value", ["20260101-000000-aaaa:5", "20260101-000000-aaaa:x", "nothing", "../..", 5, "/:3"]
)
def test_what_is_not_there_is_refused(home, value):
    save(home, "20260101-000000-aaaa", [4])
    with pytest.raises(NotFoundError) as refused:
        found(home, value)
    assert refused.value.problems[0].where == "trainer.resume_from_checkpoint"


def test_weights_of_another_shape_are_refused_by_setting(home):
    folder = save(home, "20260101-000000-aaaa", [4], lora_r=8, optim="sgd")
    with pytest.raises(ConfigError) as refused:
        found(home, folder.name, lora_r=16)
    assert {problem.where: problem.remedy for problem in refused.value.problems} == {
        "lora_r": "Set it to 8.",
        "optim": "Set it to sgd.",
    }


def test_a_checkpoint_of_one_of_two_stages_stays_with_its_run(home):
    folder = save(home, "20260101-000000-aaaa", [4], stage=2)
    with pytest.raises(ConfigError, match="one stage of a run, which only that run can use"):
        found(home, folder.name)


def test_a_checkpoint_and_an_adapter_contradict_each_other():
    values = {"trainer.resume_from_checkpoint": "a-run", "adapter.start_from": "b-run"}
    with pytest.raises(ConfigError) as refused:
        resolve(Layer("form", BASE | values))
    (problem,) = refused.value.problems
    assert problem.where == "trainer.resume_from_checkpoint"


def test_a_model_from_nothing_has_the_shape_of_its_checkpoint(home):
    new = {"model_name": "", "adapter": {"enabled": False}, "max_seq_length": 64}
    shape = {"enabled": True, "depth": 2, "vocab_size": 300}
    folder = save(home, "20260101-000000-aaaa", [4], **new, pretraining=shape)
    same = {**new, "pretraining": {**shape, "total_batch_tokens": 2048, "target_flops": 1e9}}
    # The defaults of a training from nothing are in the record of a run.
    record = json.loads((folder / "config.json").read_text("utf-8"))
    record["config"] = resolve(Layer("form", {**BASE, **same})).config.explicit_values()
    (folder / "config.json").write_text(json.dumps(record), "utf-8")
    assert found(home, folder.name, **same) == (folder.name, "checkpoint-4")
    for name, value in (("vocab_size", 512), ("n_kv_heads", 1), ("tie_embeddings", True)):
        with pytest.raises(ConfigError) as refused:
            found(home, folder.name, **{**same, "pretraining": {**shape, name: value}})
        (problem,) = refused.value.problems
        assert problem.where == f"pretraining.{name}"
    with pytest.raises(ConfigError) as refused:
        found(home, folder.name, **{**same, "max_seq_length": 128})
    assert str(refused.value.problems[0]) == (
        "max_seq_length: The run of the checkpoint has 64. Set it to 64."
    )
