"""llama.cpp computes base and adapter as the merged model computes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from modelforge.errors import RunError
from modelforge.export.gguf.lora import write_lora
from modelforge.export.gguf.write import write_gguf
from modelforge.export.llama_cpp import LlamaModel

pytestmark = pytest.mark.torch

ADAPTERS = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "patterns": {"rank_pattern": {"q_proj": 8}, "alpha_pattern": {"down_proj": 3}},
}
TEXT = "The quick brown fox jumps over the lazy dog."


def adapted(model, folder, **settings):
    values = {"target_modules": "all-linear"} | settings
    torch.manual_seed(1)
    tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, **values)).eval()
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn_like(weight) * 0.2)
    tuned.save_pretrained(folder, save_embedding_layers=False)
    return tuned


@pytest.mark.parametrize(
    ("case", "adapter"),
    [
        *(("llama", name) for name in ADAPTERS),
        *((case, "plain") for case in ("qwen3", "phi3", "gemma3")),
    ],
)
def test_llama_cpp_adds_what_peft_adds(case, adapter, model_of, tokenizer, tmp_path):
    model, folder = model_of(case)
    write_gguf(folder, tmp_path / "base.gguf", "f16", "a model")
    tuned = adapted(model, tmp_path / "adapter", **ADAPTERS[adapter])
    write_lora(tmp_path / "adapter", model.config, tmp_path / "adapter.gguf", "an adapter")
    ids = tokenizer(TEXT)["input_ids"]
    with torch.no_grad():
        expected = tuned(torch.tensor([ids])).logits[0].numpy()
        with tuned.disable_adapter():
            base = tuned(torch.tensor([ids])).logits[0].numpy()
    with LlamaModel(tmp_path / "base.gguf", 256, tmp_path / "adapter.gguf") as opened:
        found = opened.logits(ids)
    scale = np.abs(expected).mean()
    assert np.abs(found - expected).mean() < 0.01 * scale
    assert np.abs(base - expected).mean() > 0.1 * scale


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"use_dora": True}, "DoRA"), ({"modules_to_save": ["lm_head"]}, "modules_to_save")],
)
def test_what_llama_cpp_cannot_add_is_refused(settings, word, model_of, tmp_path):
    model, _folder = model_of("llama")
    adapted(model, tmp_path / "adapter", target_modules=["q_proj"], **settings)
    with pytest.raises(RunError, match=word):
        write_lora(tmp_path / "adapter", model.config, tmp_path / "adapter.gguf", "an adapter")


def test_an_adapter_of_another_kind_is_refused(model_of, tmp_path):
    model, _folder = model_of("llama")
    adapted(model, tmp_path / "adapter", target_modules=["q_proj"])
    settings = tmp_path / "adapter" / "adapter_config.json"
    values = json.loads(settings.read_text("utf-8")) | {"peft_type": "IA3"}
    settings.write_text(json.dumps(values), "utf-8")
    with pytest.raises(RunError, match="IA3"):
        write_lora(tmp_path / "adapter", model.config, tmp_path / "adapter.gguf", "an adapter")


def test_the_adapter_of_another_base_is_refused_by_llama_cpp(model_of, tmp_path):
    model, _folder = model_of("llama")
    adapted(model, tmp_path / "adapter")
    write_lora(tmp_path / "adapter", model.config, tmp_path / "adapter.gguf", "an adapter")
    _other, folder = model_of("qwen2")
    write_gguf(folder, tmp_path / "other.gguf", "f16", "a model")
    with pytest.raises(RunError, match=r"cannot open adapter\.gguf"):
        LlamaModel(tmp_path / "other.gguf", 256, tmp_path / "adapter.gguf")
