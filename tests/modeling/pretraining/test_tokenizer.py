"""Tokenizers that are trained on a text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelforge.errors import DataError

pytestmark = pytest.mark.torch

TEMPLATE = (Path(__file__).parents[3] / "assets/templates/chatml.jinja").read_text("utf-8")
TEXTS = [
    f"The keeper of lamp {n} counts {n * 7} ships at night, and the {word} answers."
    for n, word in enumerate(
        ["sea", "wind", "harbour", "captain", "morning", "lantern", "island", "rope", "anchor"] * 40
    )
]


@pytest.fixture(scope="module")
def tokenizer():
    from modelforge.modeling.pretraining.tokenizer import train_tokenizer

    return train_tokenizer(TEXTS, 300, context=128, chat_template=TEMPLATE)


def test_every_byte_comes_back(tokenizer):
    texts = [
        "".join(map(chr, range(256))),
        "".join(chr(point) for point in range(0x3B1, 0x3CA)) + " 日本 👩‍🚀 \r\n\t  x",
        "<|im_end|> is a text here",
    ]
    assert len(tokenizer) == 300
    for text in texts:
        ids = tokenizer(text, split_special_tokens=True)["input_ids"]
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    used = {name for name, at in tokenizer.get_vocab().items() if len(name) == 1}
    assert len(used) == 256, "each byte is a token"


def test_a_learned_word_is_one_token_and_each_digit_its_own(tokenizer):
    assert len(tokenizer(" ships")["input_ids"]) == 1
    assert len(tokenizer("2048")["input_ids"]) == 4


def test_it_is_saved_as_any_other_tokenizer(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    from modelforge.modeling.pretraining.tokenizer import save_tokenizer

    save_tokenizer(tokenizer, tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(TEXTS[3])["input_ids"] == tokenizer(TEXTS[3])["input_ids"]
    assert (again.bos_token, again.eos_token, again.pad_token) == (
        "<|endoftext|>", "<|im_end|>", "<|pad|>",
    )  # fmt: skip
    asked = again.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert asked == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    ids = again(asked)["input_ids"]
    assert ids[0] == again.convert_tokens_to_ids("<|im_start|>"), "special tokens are one token"
    state = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    assert [part["type"] for part in state["pre_tokenizer"]["pretokenizers"]] == [
        "Digits", "ByteLevel",
    ]  # fmt: skip


def test_a_vocabulary_larger_than_the_text_supports_is_refused_with_the_bound():
    from modelforge.modeling.pretraining.tokenizer import train_tokenizer

    with pytest.raises(DataError, match=r"supports \d+ tokens; 8,192 are asked for"):
        train_tokenizer(TEXTS[:5], 8192, context=128, chat_template=TEMPLATE)
