"""A reward model that cannot judge completions is refused before the start."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from modelforge.config import TrainingConfig
from modelforge.errors import ConfigError, ForgeError, NotFoundError
from modelforge.models.reward_model import check_reward_model
from modelforge.paths import Home

CLASSIFIER = {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}
ONE = {"id2label": {"0": "LABEL_0"}}


def write(folder: Path, **files: object) -> str:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), "utf-8")
    return str(folder)


def check(name: str | None, tmp_path: Path, **settings: object) -> None:
    config = TrainingConfig(
        task="text-generation",
        model_name="starter",
        dataset="rows.jsonl",
        compute_specs="low_end",
        **{"strategy": "rlhf", "trainer": {"reward_model": name}, **settings},
    )
    check_reward_model(config, Home(tmp_path / "home"))


def weights(folder: Path, name: str = "model") -> None:
    save_file({"w": np.zeros((2, 2), np.float32)}, str(folder / f"{name}.safetensors"))


def test_a_classifier_with_one_label_or_its_adapter_is_accepted(tmp_path: Path):
    name = write(tmp_path / "judge", config={**CLASSIFIER, **ONE})
    weights(tmp_path / "judge")
    check(name, tmp_path)
    name = write(tmp_path / "adapter", adapter_config={"task_type": "SEQ_CLS"})
    weights(tmp_path / "adapter", "adapter_model")
    check(name, tmp_path)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"config": CLASSIFIER}, "2 labels instead of 1"),
        ({"config": {**CLASSIFIER, "num_labels": 3}}, "3 labels"),
        ({"config": {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}}, "CausalLM"),
        ({"config": {"model_type": "llama"}}, "unknown architecture"),
        ({"adapter_config": {"task_type": "CAUSAL_LM"}}, "CAUSAL_LM, not for SEQ_CLS"),
    ],
)
def test_another_model_is_refused(tmp_path: Path, files: dict[str, object], words: str):
    name = write(tmp_path / "other", **files)
    weights(tmp_path / "other", "adapter_model" if "adapter_config" in files else "model")
    with pytest.raises(ConfigError, match=words) as raised:
        check(name, tmp_path)
    assert raised.value.problems[0].where == "trainer.reward_model"


def test_a_missing_model_or_missing_weights_are_refused(tmp_path: Path):
    adapter = write(tmp_path / "adapter", adapter_config={"task_type": "SEQ_CLS"})
    bare = write(tmp_path / "bare", config={**CLASSIFIER, **ONE})
    for name in (str(tmp_path / "nowhere"), adapter, bare, "no such name"):
        with pytest.raises(ForgeError) as raised:
            check(name, tmp_path)
        assert isinstance(raised.value, (ConfigError, NotFoundError))
        assert raised.value.problems[0].where == "trainer.reward_model"


def test_a_name_that_is_not_used_is_not_checked(tmp_path: Path):
    nowhere = {"reward_model": str(tmp_path / "nowhere")}
    check(None, tmp_path)
    check(None, tmp_path, trainer={**nowhere, "reward": "json"})
    check(None, tmp_path, strategy="sft", trainer=nowhere)
