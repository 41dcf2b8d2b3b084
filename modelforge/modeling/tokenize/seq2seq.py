"""Encode documents and summaries for encoder-decoders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from modelforge.data.canonical.convert import document_and_summary
from modelforge.modeling.tokenize.encode import IGNORE_INDEX, TokenizedExample
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.template import ChatTemplate


@dataclass(frozen=True)
class Seq2SeqExample(TokenizedExample):
    """`source_ids` for the encoder and `target_ids` for the decoder.

    For the preview, `input_ids` and `labels` hold both, one after the other.
    """

    source_ids: list[int] = field(default_factory=list)
    target_ids: list[int] = field(default_factory=list)


def encode_seq2seq(
    row: dict[str, Any], template: ChatTemplate, options: TokenizeOptions
) -> Seq2SeqExample | None:
    """Encode document and summary, each in `max_length` tokens; None if the row is left out.

    A longer document loses its end, or its beginning if `truncation` is "left".
    """
    texts = document_and_summary(row)
    if texts is None:
        return None
    document, summary = texts
    source, before, after = _source(f"{template.prefix}{document}", template, options)
    target = _target(summary, template)
    limit = options.max_length
    if (before or after or len(target) > limit) and options.truncation == "delete":
        return None
    excess = target[limit - 1 : -1] if len(target) > limit else []
    if excess:
        target = [*target[: limit - 1], target[-1]]
    return Seq2SeqExample(
        input_ids=[*source, *target],
        labels=[*[IGNORE_INDEX] * len(source), *target],
        cut_before=before,
        cut_after=[*after, *excess],
        source_ids=source,
        target_ids=target,
    )


def _source(
    text: str, template: ChatTemplate, options: TokenizeOptions
) -> tuple[list[int], list[int], list[int]]:
    """Return the source ids, and the ids that were cut off before and after them."""
    tokenizer, limit = template.tokenizer, options.max_length
    whole = tokenizer(text, verbose=False)["input_ids"]
    if len(whole) <= limit:
        return whole, [], []
    bare = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    keep = limit - (len(whole) - len(bare))
    if options.truncation == "left":
        kept, before, after = bare[-keep:], bare[:-keep], []
    else:
        kept, before, after = bare[:keep], [], bare[keep:]
    # Special tokens stay around the text, as they are around the whole text.
    starts = (at for at in range(len(whole)) if whole[at : at + len(bare)] == bare)
    first = next(starts, 0)
    return [*whole[:first], *kept, *whole[first + len(bare) :]], before, after


def _target(text: str, template: ChatTemplate) -> list[int]:
    ids: list[int] = template.tokenizer(text_target=text, verbose=False)["input_ids"]
    return ids if ids and ids[-1] in template.stop_ids else [*ids, template.end_id]
