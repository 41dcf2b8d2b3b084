"""llama.cpp splits texts into the same tokens as the fast tokenizer."""

from __future__ import annotations

import json
import random
import unicodedata

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
from transformers import AutoTokenizer, PreTrainedTokenizerFast

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

# The starter has no tokens for them: the fast tokenizer makes them unknown, llama.cpp does not.
LACKING = "\x04\x06\x13\x14\x16\x1d"


@pytest.fixture(scope="module")
def tokenizer(starter_folder):
    """Give the whole one."""
    return AutoTokenizer.from_pretrained(starter_folder)


def texts(count, without_marks=False):
    """Return odd texts of assigned characters: pieces, bytes of all kinds, letters of alphabets."""
    rng = random.Random(7)
    pieces = [piece for piece in PIECES if not (without_marks and has_mark(piece))]
    made = ["".join(rng.choices(pieces, k=rng.randint(1, 12))) for _ in range(count - 300)]
    letters = [chr(point) for point in range(1, 0x500) if unicodedata.category(chr(point)) != "Cn"]
    letters = [letter for letter in letters if letter not in LACKING]
    letters = [letter for letter in letters if not (without_marks and has_mark(letter))]
    return made + ["".join(rng.choices(letters, k=20)) for _ in range(300)]


def has_mark(text):
    return any(unicodedata.category(letter).startswith("M") for letter in text)


def differing(path, tokenizer, count=1000, without_marks=False):
    with LlamaModel(path, 256) as model:
        return [
            text
            for text in texts(count, without_marks)
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
    # llama.cpp ends a word before a combining mark there: see docs/exports.md.
    without_marks = split in ("tekken", "gpt-4o")
    assert differing(tmp_path / "model.gguf", other, 500, without_marks) == []


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
    steps = [first, state["pre_tokenizer"]]
    state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))
    with pytest.raises(RunError, match="a split of texts by"):
        gguf_tokenizer.read_vocabulary(other, len(tokenizer))


def test_nested_sequences_are_one_split(tokenizer):
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    inner = {"type": "Sequence", "pretokenizers": [state["pre_tokenizer"]]}
    digits = {"type": "Digits", "individual_digits": True}
    state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, inner]}
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))
    assert gguf_tokenizer.read_vocabulary(other, len(tokenizer)).pre == "smollm"


def test_the_special_tokens_of_the_starter_are_control_tokens(tokenizer):
    types = gguf_tokenizer.read_vocabulary(tokenizer, len(tokenizer)).types
    assert types[:17] == [3] * 17
    assert types.count(3) == 17


def test_unigram_is_refused(tokenizer):
    raw = Tokenizer(models.Unigram([("a", -1.0), ("b", -2.0)], unk_id=0))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex("x"), "isolated")
    with pytest.raises(RunError, match="Unigram"):
        gguf_tokenizer.read_vocabulary(PreTrainedTokenizerFast(tokenizer_object=raw), 2)
