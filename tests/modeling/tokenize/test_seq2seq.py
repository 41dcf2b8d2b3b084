"""Documents and summaries for encoder-decoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.train.conftest import tiny_rewriter

__all__ = ["tiny_rewriter"]
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def row(document: str = "The ship sank at dawn.", summary: str = "It sank.") -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": document},
            {"role": "assistant", "content": summary},
        ]
    }


@pytest.fixture
def reader(tiny_rewriter: Path) -> Any:
    from transformers import AutoTokenizer

    from modelforge.modeling.tokenize.template import load_chat_template

    return load_chat_template(AutoTokenizer.from_pretrained(tiny_rewriter), (2,))


def encoded(row, template, max_length: int = 64, truncation: Any = "right"):
    from modelforge.modeling.tokenize.options import TokenizeOptions
    from modelforge.modeling.tokenize.seq2seq import encode_seq2seq

    options = TokenizeOptions(max_length, truncation=truncation, method="seq2seq")
    return encode_seq2seq(row, template, options)


def test_document_and_summary_are_apart_and_the_summary_is_trained(reader):
    found = encoded(row(), reader)
    tokenizer = reader.tokenizer
    assert tokenizer.decode(found.source_ids).endswith("The ship sank at dawn.")
    assert tokenizer.decode(found.target_ids) == "It sank.<|im_end|>"
    assert found.input_ids == [*found.source_ids, *found.target_ids]
    assert found.labels == [-100] * len(found.source_ids) + found.target_ids
    assert not found.is_truncated


def test_a_row_without_document_or_summary_is_left_out(reader):
    assert encoded(row(summary="  "), reader) is None
    assert encoded({"messages": row()["messages"][:1]}, reader) is None


@pytest.mark.parametrize("truncation", ["right", "left"])
def test_a_long_document_loses_one_end(reader, truncation):
    whole = encoded(row(), reader).source_ids
    limit = len(whole) - 2
    found = encoded(row(), reader, limit, truncation)
    assert found.source_ids == (whole[:limit] if truncation == "right" else whole[2:])
    cut = (found.cut_before, found.cut_after)
    assert cut == (([], whole[limit:]) if truncation == "right" else (whole[:2], []))


def test_a_document_of_exactly_the_longest_length_stays_whole(reader):
    whole = encoded(row(), reader)
    limit = len(whole.source_ids)
    assert encoded(row(), reader, limit, "delete") == whole
    assert encoded(row(), reader, limit - 1, "delete") is None


def test_a_long_summary_keeps_its_end_token(reader):
    text = row(document="One.", summary="It sank at dawn with all hands and the cat aboard.")
    whole = encoded(text, reader).target_ids
    limit = len(whole) - 3
    found = encoded(text, reader, limit)
    assert found.target_ids == [*whole[: limit - 1], whole[-1]]
    assert found.cut_after == whole[limit - 1 : -1]
    assert encoded(text, reader, len(whole)).target_ids == whole
    assert encoded(text, reader, limit, "delete") is None


def test_special_tokens_stay_around_a_truncated_document(reader, monkeypatch):
    from tokenizers.processors import TemplateProcessing

    tokenizer = reader.tokenizer
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A <|im_end|>",
        special_tokens=[("<|im_start|>", 1), ("<|im_end|>", 2)],
    )
    whole = encoded(row(), reader).source_ids
    assert (whole[0], whole[-1]) == (1, 2)
    for truncation in ("right", "left"):
        ids = encoded(row(), reader, len(whole) - 3, truncation).source_ids
        assert (ids[0], ids[-1], len(ids)) == (1, 2, len(whole) - 3)
        kept = whole[1:-4] if truncation == "right" else whole[4:-1]
        assert ids[1:-1] == kept
    # The end token is already there.
    assert encoded(row(), reader).target_ids.count(2) == 1
