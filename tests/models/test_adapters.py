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


def asked(said, **more):
    more.setdefault("adapter", {})["start_from"] = str(said)
    return TrainingConfig(
        task="text-generation",
        model_name="starter",
        dataset="sample:captain",
        compute_specs="low_end",
        **more,
    )


def test_a_run_is_meant_by_its_id_and_a_folder_by_its_path(home, tmp_path):
    of_run = adapter(home.runs / "20260101-000000-abcd" / "output")
    assert find_adapter(asked("20260101-000000-abcd"), home, MODEL) == of_run.resolve()
    apart = adapter(tmp_path / "mine")
    assert find_adapter(asked(apart), home, MODEL) == apart.resolve()


@pytest.mark.parametrize("said", ["nothing", "../..", "~nobody-at-all/x", "\x00"])
def test_what_is_not_there_is_said(home, said):
    with pytest.raises(NotFoundError):
        find_adapter(asked(said), home, MODEL)


def test_only_safetensors_are_taken(home, tmp_path):
    folder = adapter(tmp_path / "mine")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(NotFoundError, match="safetensors"):
        find_adapter(asked(folder), home, MODEL)


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
def test_an_adapter_of_another_model_or_shape_is_refused_in_words(
    home, tmp_path, own, settings, where
):
    folder = adapter(tmp_path / "mine", **own)
    with pytest.raises(ConfigError) as refused:
        find_adapter(asked(folder, **settings), home, MODEL)
    assert refused.value.problems[0].where == where
    assert refused.value.problems[0].remedy
