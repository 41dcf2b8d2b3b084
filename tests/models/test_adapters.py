"""Which adapter a run is to begin with, and why one is refused."""

from __future__ import annotations

import json

import pytest

from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import ConfigError, NotFoundError
from modelforge.models.adapters import find_adapter
from modelforge.paths import Home

SHAPE = {
    "peft_type": "LORA",
    "base_model_name_or_path": "/old/home/models/starter",
    "r": 16,
    "lora_alpha": 32,
    "use_rslora": False,
    "use_dora": False,
}
MODEL = "/new/home/models/starter"


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def adapter(folder, **other):
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "adapter_config.json").write_text(json.dumps(SHAPE | other))
    return folder


def config_from(name, **more):
    more.setdefault("adapter", {})["start_from"] = str(name)
    required = {"task": "text-generation", "model_name": "starter", "dataset": "sample:captain"}
    return TrainingConfig.from_record({**required, "compute_specs": "low_end", **more})


def test_an_adapter_is_named_by_run_id_or_folder(home, tmp_path):
    of_run = adapter(home.runs / "20260101-000000-abcd" / "output")
    assert find_adapter(config_from("20260101-000000-abcd"), home, MODEL) == of_run.resolve()
    apart = adapter(tmp_path / "mine")
    assert find_adapter(config_from(apart), home, MODEL) == apart.resolve()


@pytest.mark.parametrize("name", ["nothing", "../..", "~nobody-at-all/x", "\x00"])
def test_a_missing_adapter_is_reported(home, name):
    with pytest.raises(NotFoundError):
        find_adapter(config_from(name), home, MODEL)


def test_only_safetensors_are_accepted(home, tmp_path):
    folder = adapter(tmp_path / "mine")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(NotFoundError, match="safetensors"):
        find_adapter(config_from(folder), home, MODEL)


@pytest.mark.parametrize(
    ("own", "settings", "where"),
    [
        ({"base_model_name_or_path": "/old/home/models/other"}, {}, "adapter.start_from"),
        ({"peft_type": "IA3"}, {}, "adapter.start_from"),
        ({"r": 8}, {}, "lora_r"),
        ({"lora_alpha": 16}, {}, "lora_alpha"),
        ({"lora_alpha": 32}, {"adapter": {"alpha_over_r": 1}}, "lora_alpha"),
        ({"use_dora": True}, {}, "adapter.use_dora"),
        ({}, {"adapter": {"use_rslora": True}}, "adapter.use_rslora"),
    ],
)
def test_an_adapter_of_another_model_or_shape_is_refused(home, tmp_path, own, settings, where):
    folder = adapter(tmp_path / "mine", **own)
    with pytest.raises(ConfigError) as refused:
        find_adapter(config_from(folder, **settings), home, MODEL)
    assert refused.value.problems[0].where == where
    assert refused.value.problems[0].remedy
