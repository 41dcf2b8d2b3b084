"""Rows as the model will see them, token for token, laid out by the collator that trains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from datasets import Dataset

from modelforge.modeling.tokenize.collate import collate, pack
from modelforge.modeling.tokenize.counters import TokenizeCounts
from modelforge.modeling.tokenize.encode import IGNORE_INDEX, TokenizedExample
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.preference import (
    PreferencePair,
    collate_pairs,
    encode_pair,
    encode_unpaired,
    fits,
    without_split,
)
from modelforge.modeling.tokenize.qa import encode_qa
from modelforge.modeling.tokenize.seq2seq import encode_seq2seq
from modelforge.modeling.tokenize.template import ChatTemplate

Role = Literal["masked", "trained", "end", "cut", "pad"]
Marked = tuple[int, Role]
# What was cut off may be a book; so much of it is shown.
CUT_SHOWN = 1000
LEFT_OUT = "Left out: nothing of it is learned"


@dataclass
class PreviewRow:
    """One sequence as the model reads it, with what was cut off; `cut_more` is not shown."""

    tokens: list[Marked]
    name: str = ""
    cut_more: int = 0

    @property
    def totals(self) -> dict[str, int]:
        """Return the number of tokens of each role."""
        counts = Counter(role for _, role in self.tokens)
        counts["cut"] += self.cut_more
        return {role: counts[role] for role in ("masked", "trained", "end", "cut", "pad")}

    def as_dict(self, texts: TokenTexts) -> dict[str, Any]:
        """Return the row as plain data, with the text of every token."""
        said = texts.texts([token for token, _ in self.tokens])
        pieces = [
            {"id": token, "text": text, "role": role}
            for (token, role), text in zip(self.tokens, said, strict=True)
        ]
        return {"name": self.name, "pieces": pieces, "totals": self.totals}


@dataclass
class TokenPreview:
    """Several rows as the model will see them, and what is to be said of them."""

    rows: list[PreviewRow] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    def as_dict(self, dialect: ChatTemplate) -> dict[str, Any]:
        """Return the view as plain data."""
        texts = TokenTexts(dialect.tokenizer)
        totals: Counter[str] = Counter()
        for row in self.rows:
            totals.update(row.totals)
        return {
            "rows": [row.as_dict(texts) for row in self.rows],
            "totals": dict(totals),
            "notes": [{"code": code, "text": text} for code, text in self.notes],
        }


def preview_tokens(
    rows: Sequence[dict[str, Any]],
    dialect: ChatTemplate,
    manner: TokenizeOptions,
    settings: dict[str, Any],
) -> TokenPreview:
    """Return canonical rows of one kind as one batch; `settings` are those of `row_settings`."""
    notes = list(dialect.notes)
    if not rows:
        return TokenPreview([], notes)
    if manner.head == "seq2seq":
        return TokenPreview(list(_summaries(rows, dialect, manner)), notes)
    rows = manner.prepare(rows)
    if "chosen" in rows[0]:
        return TokenPreview(list(_pairs(rows, dialect, manner)), notes)
    if "completion" in rows[0]:
        return TokenPreview(list(_judged(rows, dialect, manner)), notes)
    if "context" in rows[0]:
        return TokenPreview(list(_contexts(rows, dialect, manner)), notes)
    counts = TokenizeCounts()
    kept: list[TokenizedExample] = []
    outside: list[PreviewRow] = []
    for row, found in zip(rows, manner.encode(rows, dialect), strict=True):
        pieces = counts.add(row, found, manner)
        kept += pieces
        if not pieces:
            outside.append(_left_out(found, manner))
    laid = _packed(kept, dialect, settings) if _flat(settings) else _padded(kept, dialect, settings)
    return TokenPreview([*laid, *outside], [*notes, *counts.notes(manner, dialect)])


def _flat(settings: dict[str, Any]) -> bool:
    return bool(settings["packing"] or settings["padding_free"])


def _padded(
    rows: list[TokenizedExample], dialect: ChatTemplate, settings: dict[str, Any]
) -> Iterator[PreviewRow]:
    if not rows:
        return
    columns = [{"input_ids": row.input_ids, "labels": row.labels} for row in rows]
    batch = collate(columns, settings, dialect.tokenizer.pad_token_id)
    for row, tokens in zip(rows, _marked(batch, dialect), strict=True):
        yield _with_cut(tokens, row.cut_before, row.cut_after)


def _packed(
    rows: list[TokenizedExample], dialect: ChatTemplate, settings: dict[str, Any]
) -> Iterator[PreviewRow]:
    """Yield the rows laid end to end, as one sequence or as many as packing makes."""
    if not rows:
        return
    columns = {"input_ids": [row.input_ids for row in rows], "labels": [row.labels for row in rows]}
    table = Dataset.from_dict(columns)
    several = settings["packing"]
    packs = [[one] for one in pack(table, settings)] if several else [list(table)]
    lost = sum(len(row.cut_before) + len(row.cut_after) for row in rows)
    for number, each in enumerate(packs, 1):
        batch = collate(each, settings, dialect.tokenizer.pad_token_id)
        name = f"Packed {number} of {len(packs)}" if several else "One batch, end to end"
        (tokens,) = _marked(batch, dialect)
        yield PreviewRow(tokens, name, lost if number == 1 else 0)


def _marked(batch: dict[str, Any], dialect: ChatTemplate) -> Iterator[list[Marked]]:
    ids, labels = batch["input_ids"].tolist(), batch["labels"].tolist()
    masks = batch["attention_mask"].tolist() if "attention_mask" in batch else None
    for place, (row, trained) in enumerate(zip(ids, labels, strict=True)):
        read = masks[place] if masks else [1] * len(row)
        yield [
            (token, _role(token, label, is_read, dialect))
            for token, label, is_read in zip(row, trained, read, strict=True)
        ]


def _role(token: int, label: int, is_read: int, dialect: ChatTemplate) -> Role:
    if not is_read:
        return "pad"
    if label == IGNORE_INDEX:
        return "masked"
    return "end" if token in dialect.stop_ids else "trained"


def _with_cut(
    tokens: list[Marked], before: list[int], after: list[int], name: str = ""
) -> PreviewRow:
    head: list[Marked] = [(token, "cut") for token in before[-CUT_SHOWN:]]
    tail: list[Marked] = [(token, "cut") for token in after[:CUT_SHOWN]]
    more = len(before) + len(after) - len(head) - len(tail)
    return PreviewRow([*head, *tokens, *tail], name, more)


def _left_out(row: TokenizedExample, manner: TokenizeOptions) -> PreviewRow:
    """Return a row that is not trained on: what of it is too long or has nothing to learn."""
    most = manner.max_length
    if row.trained_tokens and manner.truncation == "delete":
        return _with_cut([], [], row.input_ids, "Left out: it is too long")
    kept: list[Marked] = [(token, "masked") for token in row.input_ids[:most]]
    return _with_cut(kept, [], row.input_ids[most:], LEFT_OUT)


def _pairs(
    rows: Sequence[dict[str, Any]], dialect: ChatTemplate, manner: TokenizeOptions
) -> Iterator[PreviewRow]:
    for row in rows:
        pair = encode_pair(row, dialect)
        if pair is None:
            yield PreviewRow([], LEFT_OUT)
        elif not fits(pair, manner):
            for name, answer in (("Chosen", pair.chosen), ("Rejected", pair.rejected)):
                yield _with_cut([], [], pair.prompt + answer, f"{name}, left out: too long")
        else:
            yield from _both(pair, dialect, manner)


def _both(
    pair: PreferencePair, dialect: ChatTemplate, manner: TokenizeOptions
) -> Iterator[PreviewRow]:
    batch = collate_pairs([pair], manner, dialect.tokenizer.pad_token_id)
    learned = batch["completion_mask"].bool()
    batch["labels"] = batch["input_ids"].masked_fill(~learned, IGNORE_INDEX)
    named = zip(("Chosen", "Rejected"), (pair.chosen, pair.rejected), strict=True)
    for (name, answer), tokens in zip(named, _marked(batch, dialect), strict=True):
        whole = pair.prompt + answer
        excess = max(0, len(whole) - manner.max_length)
        before = whole[:excess] if manner.truncation == "left" else []
        after = whole[len(whole) - excess :] if manner.truncation != "left" else []
        yield _with_cut(tokens, before, after, name)


def _judged(
    rows: Sequence[dict[str, Any]], dialect: ChatTemplate, manner: TokenizeOptions
) -> Iterator[PreviewRow]:
    manner = without_split(manner)
    for row in rows:
        found = encode_unpaired(row, dialect)
        name = "Good answer" if row["label"] else "Bad answer"
        pieces = manner.truncate(found) if found else []
        if not found or not pieces:
            yield (PreviewRow([], f"{name}. {LEFT_OUT}") if not found else _left_out(found, manner))
        for piece in pieces:
            yield _with_cut(_plainly(piece, dialect), piece.cut_before, piece.cut_after, name)


def _contexts(
    rows: Sequence[dict[str, Any]], dialect: ChatTemplate, manner: TokenizeOptions
) -> Iterator[PreviewRow]:
    for row in rows:
        windows = encode_qa(row, dialect.tokenizer, manner.max_length)
        if not windows:
            yield PreviewRow([], "Left out: the question leaves no room for the context")
        for number, window in enumerate(windows, 1):
            name = f"Window {number} of {len(windows)}" if len(windows) > 1 else ""
            yield PreviewRow(_plainly(window, dialect), name)


def _summaries(
    rows: Sequence[dict[str, Any]], dialect: ChatTemplate, manner: TokenizeOptions
) -> Iterator[PreviewRow]:
    for row in rows:
        found = encode_seq2seq(row, dialect, manner)
        if found is None:
            yield PreviewRow([], LEFT_OUT)
        else:
            yield _with_cut(_plainly(found, dialect), found.cut_before, found.cut_after)


def _plainly(row: TokenizedExample, dialect: ChatTemplate) -> list[Marked]:
    pairs = zip(row.input_ids, row.labels, strict=True)
    return [(token, _role(token, label, 1, dialect)) for token, label in pairs]


BROKEN = "\ufffd"
# No letter has more bytes than a few; after so many tokens the sign stands for itself.
LONGEST = 8


class TokenTexts:
    """Tells the text of tokens. Of those that share a letter the last one has it."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # Behind a letter a token keeps the space it begins with, which decoders drop in front.
        self._anchor = tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
        self._before = len(self._decode(self._anchor))
        self._known: dict[int, str] = {}

    def texts(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each token; empty for one that is only a part of a letter."""
        texts: list[str] = []
        waiting: list[int] = []
        for token in ids:
            waiting.append(token)
            text = self._text(waiting)
            if text.endswith(BROKEN) and len(waiting) < LONGEST:
                texts.append("")
                continue
            texts.append(text)
            waiting = []
        if waiting:
            texts[-1] = self._text(waiting)
        return texts

    def _text(self, ids: list[int]) -> str:
        if len(ids) > 1:
            return self._decode([*self._anchor, *ids])[self._before :]
        token = ids[0]
        if token not in self._known:
            self._known[token] = self._decode([*self._anchor, token])[self._before :]
        return self._known[token]

    def _decode(self, ids: list[int]) -> str:
        return str(
            self._tokenizer.decode(
                ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )
