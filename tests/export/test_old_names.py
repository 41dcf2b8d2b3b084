"""Configs have the names of Transformers 4 too, and mean the same to Transformers 5."""

from __future__ import annotations

import json

import pytest
import transformers
from transformers import AutoConfig

from modelforge.modeling.merging.old_names import old_names, write_old_names
from tests.export.cases import CONFIGS, GEMMA, HEADS, SHAPE

pytestmark = pytest.mark.torch

YARN = {
    "rope_theta": 50_000.0,
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 128,
}
PLAIN = {"rope_theta": 1_000.0, "rope_type": "default"}
KINDS = ["sliding_attention", "full_attention"] * 2
BY_LAYER = {"full_attention": YARN, "sliding_attention": PLAIN}
MORE = {
    "gemma3-scaled": (
        "Gemma3Text", HEADS | GEMMA | {"layer_types": KINDS, "rope_parameters": BY_LAYER}
    ),
    "olmo3": ("Olmo3", {"layer_types": KINDS, "rope_parameters": BY_LAYER}),
    "modernbert": ("ModernBert", {}),
    "gpt_neox": ("GPTNeoX", {}),
    "gpt2": ("GPT2", {}),
    "t5": ("T5", {}),
}  # fmt: skip


def saved(folder, name, own):
    config = getattr(transformers, f"{name}Config")(**SHAPE | {"vocab_size": 512} | own)
    config.dtype = "bfloat16"
    config.save_pretrained(folder)
    return AutoConfig.from_pretrained(folder)


def rope(config):
    """Return the rotary embedding of a config without the old name of its type."""
    values = json.loads(json.dumps(config.to_dict().get("rope_parameters")))
    for each in [values, *values.values()] if values else []:
        if isinstance(each, dict):
            each.pop("type", None)
    return values


@pytest.mark.parametrize("case", CONFIGS | MORE)
def test_transformers_5_reads_the_same_config(case, tmp_path):
    before = saved(tmp_path, *(CONFIGS | MORE)[case])
    write_old_names(tmp_path)
    after = AutoConfig.from_pretrained(tmp_path)
    assert rope(after) == rope(before)
    assert after.dtype == before.dtype
    again = tmp_path / "again"
    after.save_pretrained(again)
    assert rope(AutoConfig.from_pretrained(again)) == rope(before)


@pytest.mark.parametrize("case", [*CONFIGS, "gemma3-scaled"])
def test_every_model_type_has_the_old_names(case, tmp_path):
    before = saved(tmp_path, *(CONFIGS | MORE)[case])
    write_old_names(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text("utf-8"))
    full = before.rope_parameters.get("full_attention", before.rope_parameters)
    assert written["rope_theta"] == full["rope_theta"]
    assert written["torch_dtype"] == written["dtype"] == "bfloat16"
    scaling = written["rope_scaling"] or {"type": "default"}
    assert scaling["type"] == full["rope_type"]
    assert scaling.get("factor") == full.get("factor")


def test_the_old_config_of_phi_3_takes_exactly_three_names(tmp_path):
    names = old_names(saved(tmp_path, *CONFIGS["phi3-long"]).to_dict())
    assert set(names["rope_scaling"]) == {"type", "short_factor", "long_factor"}
    assert names["original_max_position_embeddings"] == 512


def test_partial_rotation_is_written_beside_it(tmp_path):
    own = {"rope_parameters": PLAIN | {"partial_rotary_factor": 0.75}}
    assert old_names(saved(tmp_path, "Phi3", own).to_dict())["partial_rotary_factor"] == 0.75
    write_old_names(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).rope_parameters["partial_rotary_factor"] == 0.75


def test_a_config_that_would_be_misread_is_left_alone(tmp_path, monkeypatch):
    saved(tmp_path, *CONFIGS["qwen3"])
    before = (tmp_path / "config.json").read_bytes()
    wrong = {"rope_scaling": {"type": "linear", "factor": 2.0}}
    monkeypatch.setattr("modelforge.modeling.merging.old_names.old_names", lambda _values: wrong)
    write_old_names(tmp_path)
    assert (tmp_path / "config.json").read_bytes() == before
