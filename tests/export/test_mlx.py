"""A folder for mlx-lm has a config with every value under the names that mlx-lm reads."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from modelforge.errors import RunError
from modelforge.export.mlx import adapt, mlx_config
from modelforge.modeling.merging.weights import INDEX
from tests.export.cases import CONFIGS, SHAPE

pytestmark = pytest.mark.torch

# Model type → the values that mlx-lm's classes read beside those that all models have.
READ = {
    "llama": ("rope_theta", "rope_scaling", "tie_word_embeddings", "attention_bias", "mlp_bias"),
    "smollm3": ("rope_theta", "no_rope_layers", "tie_word_embeddings"),
    "qwen2": ("rope_theta", "rope_scaling", "tie_word_embeddings"),
    "qwen3": ("rope_theta", "head_dim", "tie_word_embeddings"),
    "gemma2": ("rope_theta", "head_dim", "attn_logit_softcapping", "query_pre_attn_scalar"),
    "gemma3": ("rope_theta", "rope_local_base_freq", "sliding_window", "sliding_window_pattern"),
    "phi3": ("rope_theta", "partial_rotary_factor", "tie_word_embeddings"),
    "granite": ("rope_theta", "logits_scaling", "attention_multiplier", "attention_bias"),
}


def config_of(case, **settings):
    name, own = CONFIGS[case]
    values = SHAPE | {"vocab_size": 512} | own | settings
    return getattr(transformers, f"{name}Config")(**values)


@pytest.mark.parametrize("case", READ)
def test_every_value_that_mlx_reads_is_there(case):
    values = mlx_config(config_of(case))
    assert set(READ[case]) <= set(values)


def test_the_base_of_the_rotary_embedding_is_that_of_the_model():
    rope = {"rope_theta": 123_456.0, "rope_type": "default"}
    values = mlx_config(config_of("llama", rope_parameters=rope))
    assert values["rope_theta"] == 123_456.0
    assert values["rope_scaling"] is None


def test_a_scaled_rotary_embedding_has_its_type_under_both_names():
    scaling = mlx_config(config_of("llama-llama3"))["rope_scaling"]
    assert scaling["type"] == scaling["rope_type"] == "llama3"
    assert scaling["factor"] == 8.0
    scaling = mlx_config(config_of("phi3-long"))["rope_scaling"]
    assert {"long_factor", "short_factor", "type"} <= set(scaling)


def test_the_two_bases_of_gemma_3_are_told_apart():
    rope = {
        "full_attention": {"rope_theta": 1e6, "rope_type": "default"},
        "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
    }
    kinds = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    values = mlx_config(config_of("gemma3", rope_parameters=rope, layer_types=kinds))
    assert (values["rope_theta"], values["rope_local_base_freq"]) == (1e6, 1e4)
    assert values["sliding_window_pattern"] == 3


def test_layers_that_alternate_unevenly_are_refused():
    kinds = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    with pytest.raises(RunError, match="do not alternate evenly"):
        mlx_config(config_of("gemma3", layer_types=kinds))


@pytest.mark.parametrize("tied", [False, True])
def test_the_folder_is_still_the_model_for_transformers(tied, tmp_path):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of("llama", tie_word_embeddings=tied)).eval()
    model.save_pretrained(tmp_path)
    adapt(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert values["tie_word_embeddings"] is tied
    assert values["model_type"] == "llama"
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.arange(5, 40)[None]
    with torch.no_grad():
        assert torch.equal(model(ids).logits, again(ids).logits)
    assert AutoConfig.from_pretrained(tmp_path).rope_parameters == model.config.rope_parameters


def test_weight_files_get_names_that_mlx_finds(tmp_path):
    model = AutoModelForCausalLM.from_config(config_of("llama"))
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    index = json.loads((tmp_path / INDEX).read_text("utf-8"))
    names = {name: name.replace("model", "weights") for name in index["weight_map"].values()}
    for old, new in names.items():
        (tmp_path / old).rename(tmp_path / new)
    index["weight_map"] = {key: names[name] for key, name in index["weight_map"].items()}
    (tmp_path / INDEX).write_text(json.dumps(index), "utf-8")
    adapt(tmp_path)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == len(names) > 1
    assert all(path.name.startswith("model") for path in files)
    weights = json.loads((tmp_path / INDEX).read_text("utf-8"))["weight_map"]
    assert set(weights.values()) == {path.name for path in files}
    assert set(weights) == {key for path in files for key in load_file(path)}
    AutoModelForCausalLM.from_pretrained(tmp_path)
