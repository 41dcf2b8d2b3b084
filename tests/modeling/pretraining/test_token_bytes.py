"""Bytes of each token, and bits per byte computed by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch

TEMPLATE = (Path(__file__).parents[3] / "assets/templates/chatml.jinja").read_text("utf-8")
TEXTS = [
    "The keeper of the lamp counts ships at night.",
    "日本 👩‍🚀 \r\n\t é ½ x",
    "".join(map(chr, range(256))),
]


@pytest.fixture(scope="module")
def tokenizer():
    from modelforge.modeling.pretraining.tokenizer import train_tokenizer

    rows = [f"{TEXTS[0]} {number}" for number in range(100)]
    return train_tokenizer(rows, 290, context=128, chat_template=TEMPLATE)


@pytest.fixture(scope="module")
def sizes(tokenizer):
    from modelforge.modeling.pretraining.token_bytes import token_bytes

    return token_bytes(tokenizer, 320)


def test_the_bytes_of_the_tokens_are_the_bytes_of_the_text(tokenizer, sizes):
    for text in TEXTS:
        ids = tokenizer(text, split_special_tokens=True)["input_ids"]
        assert int(sizes[ids].sum()) == len(text.encode())


def test_special_tokens_and_unused_rows_have_no_bytes(tokenizer, sizes):
    assert len(sizes) == 320
    assert [int(sizes[at]) for at in tokenizer.all_special_ids] == [0] * 4
    assert int(sizes[290:].sum()) == 0
    assert int((sizes == 0).sum()) == 4 + 30


def test_pieces_of_sentencepiece_count_spaces_and_single_bytes():
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    from modelforge.modeling.pretraining.token_bytes import token_bytes

    pieces = {"<s>": 0, "\u2581the": 1, "<0x0A>": 2, "é": 3, "<think>": 4}
    model = Tokenizer(models.BPE(pieces, [], byte_fallback=True))
    model.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, bos_token="<s>")
    tokenizer.add_tokens(["<think>"])
    assert token_bytes(tokenizer, 6).tolist() == [0, 4, 1, 2, 7, 0]


def test_bits_per_byte_leave_special_tokens_out_of_both_sums():
    """Two tokens of 3 and 1 bytes with losses of 2 ln 2 and 4 ln 2: 6 bits for 4 bytes."""
    import torch

    from modelforge.modeling.pretraining.token_bytes import ByteMeter

    meter = ByteMeter(torch.tensor([0, 3, 1]))
    assert meter.metrics == {}
    labels = meter.without_special(torch.tensor([[1, 0], [2, -100]]))
    assert labels.tolist() == [[1, -100], [2, -100]]
    meter.add(3 * math.log(2), labels)
    assert meter.metrics["bits_per_byte"] == pytest.approx(1.5)
    assert meter.bytes_per_token == 2.0
    # A batch of special tokens alone has a loss that is not a number.
    meter.add(math.nan, meter.without_special(torch.tensor([[0, 0]])))
    assert meter.metrics["bits_per_byte"] == pytest.approx(1.5)
    # One more token of 3 bytes with 1 bit: 7 bits for 7 bytes.
    meter.add(math.log(2), torch.tensor([[1]]))
    assert meter.metrics["bits_per_byte"] == pytest.approx(1.0)
    meter.reset()
    assert meter.metrics == {}


def test_the_document_token_is_that_of_the_beginning_or_the_end(tokenizer):
    from types import SimpleNamespace

    from modelforge.modeling.pretraining.token_bytes import document_id

    assert document_id(tokenizer) == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert document_id(SimpleNamespace(bos_token_id=None, eos_token_id=7)) == 7
    with pytest.raises(ValueError, match="neither"):
        document_id(SimpleNamespace(bos_token_id=None, eos_token_id=None))
