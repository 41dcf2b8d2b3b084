"""llama.cpp splits texts into the same tokens as the fast tokenizer."""

from __future__ import annotations

import json
import random

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from modelforge.errors import RunError
from modelforge.export.gguf import tokenizer as gguf_tokenizer
from modelforge.export.gguf.write import write_gguf
from modelforge.export.llama_cpp import LlamaModel

pytestmark = pytest.mark.torch

PIECES = [
    "hello", "World", " ", "  ", "\n", "\n\n", "\t", "don't", "I'LL", "x = 12345", "3.14",
    "naïve", "Straße", "日本語", "中文", "привет", "مرحبا", "हिन्दी", "🦙", "👩\u200d👩\u200d👧",
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "def f(a):\n    return a",
    '{"k": [1, 2]}', "---", "...", "http://a.b/c?d=e", "\u200b", "\u00a0", "é", "e\u0301",
    "A", "z9", "'s", "''", '\\', "%", "€5",
]  # fmt: skip


def texts(count):
    rng = random.Random(7)
    made = ["".join(rng.choices(PIECES, k=rng.randint(1, 12))) for _ in range(count - 300)]
    letters = [chr(point) for point in range(1, 0x500)]
    return made + ["".join(rng.choices(letters, k=20)) for _ in range(300)]


def differing(path, tokenizer, count=1000):
    with LlamaModel(path, 256) as model:
        return [
            text
            for text in texts(count)
            if model.tokenize(text) != tokenizer(text, add_special_tokens=False)["input_ids"]
        ]


def test_a_thousand_texts_have_the_ids_of_the_starter(model_of, tokenizer, tmp_path):
    _model, folder = model_of("llama")
    write_gguf(folder, tmp_path / "model.gguf", "q8_0", "a model")
    assert differing(tmp_path / "model.gguf", tokenizer) == []


@pytest.mark.parametrize("split", list(gguf_tokenizer._SPLITS.values()))
def test_each_known_split_is_the_one_of_llama_cpp(split, model_of, tokenizer, tmp_path):
    rules = next(key for key, name in gguf_tokenizer._SPLITS.items() if name == split)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [_step(rule) for rule in rules]}
    if "gpt2" not in rules:
        plain = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
        state["pre_tokenizer"]["pretokenizers"].append(plain | {"use_regex": False})
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))
    _model, folder = model_of("llama", num_hidden_layers=1)
    other.save_pretrained(folder)
    write_gguf(folder, tmp_path / "model.gguf", "q8_0", "a model")
    assert gguf_tokenizer.read_vocabulary(other, len(tokenizer)).pre == split
    assert differing(tmp_path / "model.gguf", other, 500) == []


def _step(rule):
    if rule == "digits":
        return {"type": "Digits", "individual_digits": True}
    if rule == "gpt2":
        plain = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
        return plain | {"use_regex": True}
    pattern = {"Regex": rule}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


def test_characters_with_bytes_as_fallback(model_of, tmp_path):
    """As in Llama 2, Mistral and Gemma."""
    raw = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    raw.normalizer = normalizers.Replace(" ", "\u2581")
    raw.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    raw.train_from_iterator(["the cat sat on the mat and then the other cat ate"] * 50, trainer)
    state = json.loads(raw.to_str())
    # Bytes are ordinary tokens there.
    state["added_tokens"] = state["added_tokens"][:3]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        bos_token="<s>", eos_token="</s>", unk_token="<unk>",
    )  # fmt: skip
    _model, folder = model_of("llama", vocab_size=len(fast) + 5, num_hidden_layers=1)
    fast.save_pretrained(folder)
    write_gguf(folder, tmp_path / "model.gguf", "q8_0", "a model")
    assert gguf_tokenizer.read_vocabulary(fast, len(fast) + 5).model == "llama"
    assert differing(tmp_path / "model.gguf", fast, 400) == []


def test_an_added_token_is_found_inside_text(model_of, tokenizer, tmp_path):
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    raw = Tokenizer.from_str(json.dumps(state))
    raw.add_tokens([AddedToken("<call>", normalized=False)])
    fast = PreTrainedTokenizerFast(tokenizer_object=raw)
    _model, folder = model_of("llama", vocab_size=len(fast), num_hidden_layers=1)
    fast.save_pretrained(folder)
    write_gguf(folder, tmp_path / "model.gguf", "q8_0", "a model")
    with LlamaModel(tmp_path / "model.gguf", 256) as model:
        assert model.tokenize("a<call>b") == fast("a<call>b")["input_ids"]


def test_a_tokenizer_without_a_match_is_refused(tokenizer):
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    split = {"Regex": "[aeiou]"}
    first = {"type": "Split", "pattern": split, "behavior": "Isolated", "invert": False}
    state["pre_tokenizer"]["pretokenizers"].insert(0, first)
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))
    with pytest.raises(RunError, match="a split of texts by"):
        gguf_tokenizer.read_vocabulary(other, len(tokenizer))


def test_unigram_is_refused(tokenizer):
    raw = Tokenizer(models.Unigram([("a", -1.0), ("b", -2.0)], unk_id=0))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex("x"), "isolated")
    with pytest.raises(RunError, match="Unigram"):
        gguf_tokenizer.read_vocabulary(PreTrainedTokenizerFast(tokenizer_object=raw), 2)
