"""Documents and summaries as tokens, for models that turn one text into another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from modelforge.data.canonical.convert import document_and_summary
from modelforge.modeling.tokenize.encode import IGNORE_INDEX, TokenizedExample
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.template import ChatTemplate


@dataclass(frozen=True)
class Seq2SeqExample(TokenizedExample):
    """One row: `source` is read, `target` is written. As a whole they stand one after the other."""

    source_ids: list[int] = field(default_factory=list)
    target_ids: list[int] = field(default_factory=list)


def encode_seq2seq(
    row: dict[str, Any], dialect: ChatTemplate, manner: TokenizeOptions
) -> Seq2SeqExample | None:
    """Return document and summary within `max_length` tokens each; None without either.

    A document that is too long loses its end, or its beginning where `truncation` is left. None
    where such rows are to be left out.
    """
    halves = document_and_summary(row)
    if halves is None:
        return None
    document, summary = halves
    source, before, after = _read(f"{dialect.prefix}{document}", dialect, manner)
    target = _written(summary, dialect)
    if (before or after or len(target) > manner.max_length) and manner.truncation == "delete":
        return None
    excess = target[manner.max_length - 1 : -1] if len(target) > manner.max_length else []
    if excess:
        target = [*target[: manner.max_length - 1], target[-1]]
    return Seq2SeqExample(
        input_ids=[*source, *target],
        labels=[*[IGNORE_INDEX] * len(source), *target],
        cut_before=before,
        cut_after=[*after, *excess],
        source_ids=source,
        target_ids=target,
    )


def _read(
    text: str, dialect: ChatTemplate, manner: TokenizeOptions
) -> tuple[list[int], list[int], list[int]]:
    """Return what is read, and what was cut off before and after it."""
    tokenizer, most = dialect.tokenizer, manner.max_length
    whole = tokenizer(text, verbose=False)["input_ids"]
    if len(whole) <= most:
        return whole, [], []
    bare = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    room = most - (len(whole) - len(bare))
    if manner.truncation == "left":
        kept, before, after = bare[-room:], bare[:-room], []
    else:
        kept, before, after = bare[:room], [], bare[room:]
    # Special tokens stand around the text, as they stood around the whole of it.
    lead = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)
    return [*whole[:lead], *kept, *whole[lead + len(bare) :]], before, after


def _written(text: str, dialect: ChatTemplate) -> list[int]:
    ids: list[int] = dialect.tokenizer(text_target=text, verbose=False)["input_ids"]
    return ids if ids and ids[-1] in dialect.stop_ids else [*ids, dialect.end_id]
