"""Merged weights compute what base and adapter compute together."""

from __future__ import annotations

import json
import sys

import psutil
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from modelforge.errors import RunError
from modelforge.export.float32 import compute_in_float32
from modelforge.export.self_test import compare_merged
from modelforge.export.trained_answers import answers_of, round_answers
from modelforge.modeling.merging.weights import INDEX, SINGLE, merge, merge_in_place
from tests.export.cases import make_model
from tests.export.trained import HELD_OUT

pytestmark = pytest.mark.torch

SHAPE = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
EMBEDDINGS = {"modules_to_save": ["embed_tokens", "lm_head"], "ensure_weight_tying": True}
ADAPTERS = {
    "lora": {},
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "ranks": {"rank_pattern": {"q_proj": 8}, "alpha_pattern": {"down_proj": 3}},
    "whole layers": EMBEDDINGS,
    "whole embeddings": EMBEDDINGS | {"modules_to_save": ["embed_tokens"]},
    "embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
    "head": {"target_modules": ["lm_head", "q_proj"]},
}


def make(folder, adapter, *, tied=False, shards="4MB", dtype=torch.float32):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=tied)).to(dtype)
    model.save_pretrained(folder / "base", max_shard_size=shards)
    settings = {"target_modules": "all-linear"} | adapter
    tuned = get_peft_model(model, LoraConfig(r=4, task_type="CAUSAL_LM", **settings)).eval()
    for weight in tuned.parameters():
        if weight.requires_grad:
            weight.data.add_(torch.randn_like(weight) * 0.1)
    tuned.save_pretrained(folder / "adapter", save_embedding_layers=False)
    (folder / "merged").mkdir()
    return tuned


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
def test_logits_are_those_of_base_and_adapter(adapter, tied, tmp_path):
    tuned = make(tmp_path, adapter, tied=tied)
    merge(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    ids = torch.arange(5, 60)[None]
    with torch.no_grad():
        difference = (merged(ids).logits - tuned(ids).logits).abs().max()
        with tuned.disable_adapter():
            learned = (merged(ids).logits - tuned(ids).logits).abs().max()
    assert difference < 1e-5
    assert learned > 1e-2


def result_of(model, base, tokenizer, folder, size):
    """Merge a random adapter and return the self-test."""
    torch.manual_seed(0)
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    tuned = get_peft_model(model, lora).eval()
    for weight in tuned.parameters():
        if weight.requires_grad:
            weight.data.copy_(torch.randn_like(weight) * size)
    tuned.save_pretrained(folder / "adapter", save_embedding_layers=False)
    (folder / "answers").mkdir()
    (folder / "merged").mkdir()
    answers = answers_of(tuned, tokenizer, HELD_OUT, folder / "answers", lambda _share: None)
    answers = round_answers(tuned, answers)
    merge(base, folder / "adapter", folder / "merged")
    tokenizer.save_pretrained(folder / "merged")
    result = compare_merged(folder / "merged", answers, "cpu", lambda _share: None)
    print(f"largest logit difference: {result.max_logit_difference:.2g}, by {result.rounding}")
    return result


@pytest.mark.parametrize("case", ["mistral", "qwen3", "gemma3", "phi3"])
def test_a_merged_model_writes_the_same_texts(case, tokenizer, tmp_path):
    model = make_model(case, tmp_path / "base", tokenizer)
    result = result_of(model, tmp_path / "base", tokenizer, tmp_path, 0.1)
    assert result.passed, result.details
    assert result.same_text == result.prompts == 20
    assert result.rounding is None


def save_in_bf16(folder, tokenizer):
    make_model("mistral", folder, tokenizer)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    return model


def test_16_bits_are_compared_with_the_trained_model_in_the_same_bits(tokenizer, tmp_path):
    model = save_in_bf16(tmp_path / "base", tokenizer)
    result = result_of(model, tmp_path / "base", tokenizer, tmp_path, 0.1)
    assert result.passed, result.details
    assert result.max_logit_difference < 1e-2
    assert result.rounding > 10 * result.max_logit_difference
    result.same_text, result.caution = 15, ""
    result.warn_of_rounding(0.5)
    assert "changes 5 of 20 texts" in result.caution
    assert "float32" in result.caution


@pytest.mark.parametrize("name", ["lora", "dora", "whole embeddings", "embeddings"])
def test_a_model_that_is_rounded_in_place_is_the_merged_one(name, tmp_path):
    make(tmp_path, ADAPTERS[name], tied=True, dtype=torch.bfloat16)
    merge(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype="auto")
    tuned = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto").eval()
    for each in (tuned, merged):
        compute_in_float32(each)
    merge_in_place(tuned)
    ids = torch.arange(5, 60)[None]
    with torch.no_grad():
        assert (merged(ids).logits - tuned(ids).logits).abs().max() < 1e-4


def test_a_precise_merge_is_nearer_to_the_trained_model(tmp_path):
    tuned = make(tmp_path, {}, dtype=torch.bfloat16).float()
    ids, far = torch.arange(5, 60)[None], {}
    for precision in ("base", "float16"):
        merge(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged", precision=precision)
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
        with torch.no_grad():
            far[precision] = (merged(ids).logits - tuned(ids).logits).abs().max()
    assert far["float16"] < far["base"] / 4
    kinds = {weight.dtype for weight in load_file(tmp_path / "merged" / SINGLE).values()}
    assert kinds == {torch.bfloat16, torch.float16}


def test_a_merge_in_32_bits_computes_what_base_and_adapter_do(tmp_path):
    make(tmp_path, {}, shards="200KB", dtype=torch.bfloat16)
    # Freshly loaded, since `to` has rounded the frequencies of the rotary embedding as well.
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    tuned = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    merge(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged", precision="float32")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert {weight.dtype for weight in merged.parameters()} == {torch.float32}
    ids = torch.arange(5, 60)[None]
    with torch.no_grad():
        assert (merged(ids).logits - tuned(ids).logits).abs().max() < 1e-5
    index = json.loads((tmp_path / "merged" / INDEX).read_text("utf-8"))
    assert index["metadata"]["total_size"] == 4 * sum(each.numel() for each in merged.parameters())


def test_weights_stay_in_their_shards_and_precision(tmp_path):
    make(tmp_path, {}, shards="200KB", dtype=torch.bfloat16)
    merge(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
    before, after = (
        json.loads((tmp_path / name / INDEX).read_text("utf-8")) for name in ("base", "merged")
    )
    assert len(set(after["weight_map"].values())) > 1
    assert after["weight_map"] == before["weight_map"]
    assert after["metadata"]["total_size"] == before["metadata"]["total_size"]
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert {weight.dtype for weight in merged.parameters()} == {torch.bfloat16}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the maps of the process")
def test_what_was_read_of_the_base_does_not_stay_in_memory(tmp_path):
    """Mapped pages of the file would double the memory of a base with a single file."""
    make(tmp_path, {})
    file, mapped = tmp_path / "base" / SINGLE, []

    def measure(_share):
        maps = psutil.Process().memory_maps()
        mapped.append(sum(each.rss for each in maps if each.path == str(file)))

    merge(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged", measure)
    assert len(mapped) > 1
    assert max(mapped) < file.stat().st_size / 10


def test_progress_is_by_weight(tmp_path):
    make(tmp_path, {}, shards="200KB")
    shares = []
    merge(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged", shares.append)
    assert shares == sorted(shares)
    assert len(shares) > 1
    assert shares[-1] == 1.0


def test_the_adapter_of_another_model_is_refused(tmp_path):
    make(tmp_path, {})
    other = LlamaForCausalLM(LlamaConfig(**SHAPE | {"hidden_size": 32}))
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(RunError, match="does not fit the base model"):
        merge(tmp_path / "other", tmp_path / "adapter", tmp_path / "merged")


def test_a_folder_without_weights_is_refused(tmp_path):
    make(tmp_path, {})
    for file in (tmp_path / "base").glob("*.safetensors*"):
        file.unlink()
    with pytest.raises(RunError, match="no safetensors weights"):
        merge(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
