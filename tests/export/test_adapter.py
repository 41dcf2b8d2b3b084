"""The adapter as others get it: the same weights and tokens, and no path of this computer."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from modelforge.export import adapter
from tests.export.jobs import make_job, put_trained_run
from tests.export.trained import Trained, make_base

pytestmark = pytest.mark.torch

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def trained(tmp_path, tokenizer):
    model = make_base(tmp_path / "base", len(tokenizer), 0)
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.1)
    tuned.save_pretrained(tmp_path / "adapter")
    return Trained(tmp_path / "base", tmp_path / "adapter", tokenizer, None)


def export(tmp_path, trained, runs=1, **request):
    home = tmp_path / "home"
    made = [put_trained_run(home, trained, number) for number in range(runs)]
    job, steps = make_job(home, made, trained, "adapter", **request)
    adapter.write(job, job.folder.staged, steps)
    adapter.write_card(job, job.folder.staged)
    return job


def test_no_file_names_a_folder_or_the_user_of_this_computer(tmp_path, trained):
    folder = export(tmp_path, trained).folder.staged
    files = [path for path in folder.rglob("*") if path.is_file()]
    places = {str(tmp_path), str(Path.home()), os.environ["MODELFORGE_HOME"]}
    for path in files:
        content = path.read_bytes()
        assert not [place for place in places if place.encode() in content], path.name
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == "base"
    base = json.loads((folder / "base_model.json").read_text("utf-8"))
    assert base["name"] == "base"
    assert len(base["sha256"]) == 64
    text = (folder / "README.md").read_text("utf-8")
    assert base["sha256"] in text
    assert "A LoRA adapter for `base`" in text


def test_adapter_and_tokenizer_are_those_of_the_run(tmp_path, trained):
    job = export(tmp_path, trained)
    folder = job.folder.staged
    ours, theirs = load_file(folder / WEIGHTS), load_file(job.run.output / WEIGHTS)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == trained.tokenizer.chat_template
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(trained.base), folder)
    assert model.peft_config["default"].r == 4
    assert {step.step: step.share for step in job.folder.steps()} == {"write": 1.0}


def test_several_adapters_become_one(tmp_path, trained):
    job = export(tmp_path, trained, runs=2, combination="cat")
    config = json.loads((job.folder.staged / "adapter_config.json").read_text("utf-8"))
    assert config["r"] == 8
    assert config["base_model_name_or_path"] == "base"
    text = (job.folder.staged / "README.md").read_text("utf-8")
    assert "combined (cat)" in text
    assert [step.step for step in job.folder.steps()] == ["combine", "write"]
