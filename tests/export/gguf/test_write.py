"""GGUF files are computed by llama.cpp as Transformers computes the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelforge.errors import RunError
from modelforge.export.gguf.quantize import FILE_TYPES
from modelforge.export.gguf.write import write_gguf
from modelforge.export.llama_cpp import LlamaModel
from tests.export.cases import CONFIGS

pytestmark = pytest.mark.torch

TEXT = (
    "The quick brown fox jumps over the lazy dog, and then it sleeps for twelve hours under a "
    "tree in the warm garden of my aunt.\nOnce upon a time there was a small boy who lived."
)


def _log_softmax(logits):
    return torch.log_softmax(torch.as_tensor(logits).double(), dim=-1).numpy()


def _divergence(model, path, ids):
    """Mean KL divergence per token, and that of a uniform guess for comparison."""
    with torch.no_grad():
        known = _log_softmax(model(torch.tensor([ids])).logits[0])
    with LlamaModel(path, 256) as opened:
        other = _log_softmax(opened.logits(ids))
    uniform = -np.log(known.shape[-1])
    kl = (np.exp(known) * (known - other)).sum(axis=-1).mean()
    return kl, (np.exp(known) * (known - uniform)).sum(axis=-1).mean()


@pytest.mark.parametrize("case", CONFIGS)
def test_llama_cpp_computes_the_same(case, model_of, tokenizer, tmp_path):
    model, folder = model_of(case)
    path = tmp_path / "model.gguf"
    write_gguf(folder, path, "f16", "a model")
    kl, uniform = _divergence(model, path, tokenizer(TEXT)["input_ids"])
    assert kl < 1e-5
    assert uniform > 0.1  # otherwise any file would do


@pytest.mark.parametrize(
    ("file_type", "bound"),
    [
        ("bf16", 1e-3),
        ("q8_0", 1e-3),
        ("q6_k", 1e-2),
        ("q5_k_m", 3e-2),
        ("q4_k_m", 0.12),
        ("iq4_xs", 0.14),
    ],
)
def test_fewer_bits_stay_near(file_type, bound, model_of, tokenizer, tmp_path):
    model, folder = model_of("llama")
    path, exact = tmp_path / "model.gguf", tmp_path / "exact.gguf"
    write_gguf(folder, path, file_type, "a model")
    write_gguf(folder, exact, "f16", "a model")
    ids = tokenizer(TEXT)["input_ids"]
    assert _divergence(model, exact, ids)[0] < _divergence(model, path, ids)[0] < bound
    assert path.stat().st_size < exact.stat().st_size or file_type == "bf16"
    assert set(FILE_TYPES) == {"f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs"}


@pytest.mark.parametrize(
    ("case", "settings", "word"),
    [
        ("gemma2", {"query_pre_attn_scalar": 100}, "query_pre_attn_scalar"),
        ("gemma3", {"layer_types": ["full_attention"] * 4}, "layer_types"),
        ("smollm3", {"no_rope_layers": [1, 1, 1, 1]}, "no_rope_layers"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope_type"),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused(case, settings, word, model_of, tmp_path):
    _model, folder = model_of(case, **settings)
    with pytest.raises(RunError, match=word):
        write_gguf(folder, tmp_path / "model.gguf", "f16", "a model")


def test_values_beyond_float16_are_refused_for_f16_only(model_of, tmp_path):
    model, folder = model_of("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] = 1e5
    model.save_pretrained(folder)
    with pytest.raises(RunError, match="100000; float16 ends at 65504"):
        write_gguf(folder, tmp_path / "model.gguf", "f16", "a model")
    write_gguf(folder, tmp_path / "model.gguf", "bf16", "a model")


def test_more_tokens_than_rows_are_refused(model_of, tokenizer, tmp_path):
    _model, folder = model_of("llama", vocab_size=len(tokenizer) - 10)
    with pytest.raises(RunError, match="2,038 rows"):
        write_gguf(folder, tmp_path / "model.gguf", "f16", "a model")


@pytest.mark.parametrize("name", ["my phi-3", "phi3 test"])
def test_a_name_does_not_change_how_llama_cpp_reads_a_file(name, model_of, tmp_path):
    _model, folder = model_of("llama")
    path = tmp_path / "model.gguf"
    write_gguf(folder, path, "f16", name)
    with LlamaModel(path, 256) as opened:
        assert opened.tokenize("Hi")
