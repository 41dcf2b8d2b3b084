"""Token preview: rows as the model sees them, collated as in training."""

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
ROLES: tuple[Role, ...] = ("masked", "trained", "end", "cut", "pad")
TokenRole = tuple[int, Role]
# Limit of shown tokens on each side that was cut off, which may be a book.
MAX_CUT_SHOWN = 1000
LEFT_OUT = "Left out: no trained token"


@dataclass
class PreviewRow:
    """Tokens of one sequence with their roles, and the number of cut tokens that are not shown."""

    tokens: list[TokenRole]
    name: str = ""
    cut_more: int = 0

    @property
    def totals(self) -> dict[str, int]:
        """The number of tokens of each role."""
        counts = Counter(role for _, role in self.tokens)
        counts["cut"] += self.cut_more
        return {role: counts[role] for role in ROLES}

    def as_dict(self, texts: TokenTexts) -> dict[str, Any]:
        """Return the row as plain data, with the text of every token."""
        token_texts = texts.texts([token for token, _ in self.tokens])
        pieces = [
            {"id": token, "text": text, "role": role}
            for (token, role), text in zip(self.tokens, token_texts, strict=True)
        ]
        return {"name": self.name, "pieces": pieces, "totals": self.totals}


@dataclass
class TokenPreview:
    """The sequences of several rows, and notes for the user."""

    rows: list[PreviewRow] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    def as_dict(self, template: ChatTemplate) -> dict[str, Any]:
        """Return the preview as plain data."""
        texts = TokenTexts(template.tokenizer)
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
    template: ChatTemplate,
    options: TokenizeOptions,
    arguments: dict[str, Any],
) -> TokenPreview:
    """Return canonical rows of one kind as one batch.

    `arguments` are those of `sft_data_arguments`.
    """
    notes = list(template.notes)
    if not rows:
        return TokenPreview([], notes)
    if options.head == "seq2seq":
        return TokenPreview(list(_summaries(rows, template, options)), notes)
    rows = options.prepare(rows)
    if "chosen" in rows[0]:
        return TokenPreview(list(_pairs(rows, template, options)), notes)
    if "completion" in rows[0]:
        return TokenPreview(list(_unpaired(rows, template, options)), notes)
    if "context" in rows[0]:
        return TokenPreview(list(_qa_windows(rows, template, options)), notes)
    counts = TokenizeCounts()
    kept: list[TokenizedExample] = []
    left_out: list[PreviewRow] = []
    for row, example in zip(rows, options.encode(rows, template), strict=True):
        parts = counts.add(row, example, options)
        kept += parts
        if not parts:
            left_out.append(_left_out(example, options))
    is_flat = arguments["packing"] or arguments["padding_free"]
    lay_out = _packed if is_flat else _padded
    batch = list(lay_out(kept, template, arguments)) if kept else []
    return TokenPreview([*batch, *left_out], [*notes, *counts.notes(options, template)])


BROKEN = "\ufffd"
# A character has only a few tokens; after this many, the replacement character is in the text.
MAX_TOKENS_PER_CHARACTER = 8


class TokenTexts:
    """Decodes tokens one by one; of tokens that share a character, the last one has it."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # Decoders drop the leading space of the first token, so another one is put in front.
        self._anchor = tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
        self._anchor_length = len(self._decode(self._anchor))
        self._known: dict[int, str] = {}

    def texts(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each token; empty for a token that is part of a character."""
        texts: list[str] = []
        pending: list[int] = []
        for token in ids:
            pending.append(token)
            text = self._text(pending)
            if text.endswith(BROKEN) and len(pending) < MAX_TOKENS_PER_CHARACTER:
                texts.append("")
                continue
            texts.append(text)
            pending = []
        if pending:
            texts[-1] = self._text(pending)
        return texts

    def _text(self, ids: list[int]) -> str:
        if len(ids) > 1:
            return self._decode_after_anchor(ids)
        token = ids[0]
        if token not in self._known:
            self._known[token] = self._decode_after_anchor(ids)
        return self._known[token]

    def _decode_after_anchor(self, ids: list[int]) -> str:
        return self._decode([*self._anchor, *ids])[self._anchor_length :]

    def _decode(self, ids: list[int]) -> str:
        return str(
            self._tokenizer.decode(
                ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )


def _padded(
    examples: list[TokenizedExample], template: ChatTemplate, arguments: dict[str, Any]
) -> Iterator[PreviewRow]:
    rows = [{"input_ids": each.input_ids, "labels": each.labels} for each in examples]
    batch = collate(rows, arguments, template.tokenizer.pad_token_id)
    for example, tokens in zip(examples, _roles(batch, template), strict=True):
        yield _with_cut(tokens, example.cut_before, example.cut_after)


def _packed(
    examples: list[TokenizedExample], template: ChatTemplate, arguments: dict[str, Any]
) -> Iterator[PreviewRow]:
    """Yield the examples end to end, as one sequence or as the packs of the trainer."""
    table = Dataset.from_dict(
        {
            "input_ids": [example.input_ids for example in examples],
            "labels": [example.labels for example in examples],
        }
    )
    is_packed = arguments["packing"]
    packs = [[row] for row in pack(table, arguments)] if is_packed else [list(table)]
    cut = sum(len(example.cut_before) + len(example.cut_after) for example in examples)
    for number, rows in enumerate(packs, 1):
        batch = collate(rows, arguments, template.tokenizer.pad_token_id)
        name = f"Packed {number} of {len(packs)}" if is_packed else "One batch without padding"
        (tokens,) = _roles(batch, template)
        yield PreviewRow(tokens, name, cut if number == 1 else 0)


def _pairs(
    rows: Sequence[dict[str, Any]], template: ChatTemplate, options: TokenizeOptions
) -> Iterator[PreviewRow]:
    for row in rows:
        pair = encode_pair(row, template)
        if pair is None:
            yield PreviewRow([], LEFT_OUT)
        elif not fits(pair, options):
            for name, completion in (("Chosen", pair.chosen), ("Rejected", pair.rejected)):
                yield _with_cut([], [], pair.prompt + completion, f"{name}, left out: too long")
        else:
            yield from _pair_sides(pair, template, options)


def _pair_sides(
    pair: PreferencePair, template: ChatTemplate, options: TokenizeOptions
) -> Iterator[PreviewRow]:
    batch = collate_pairs([pair], options, template.tokenizer.pad_token_id)
    is_trained = batch["completion_mask"].bool()
    batch["labels"] = batch["input_ids"].masked_fill(~is_trained, IGNORE_INDEX)
    sides = zip(("Chosen", "Rejected"), (pair.chosen, pair.rejected), strict=True)
    for (name, completion), tokens in zip(sides, _roles(batch, template), strict=True):
        whole = pair.prompt + completion
        excess = max(0, len(whole) - options.max_length)
        before = whole[:excess] if options.truncation == "left" else []
        after = whole[len(whole) - excess :] if options.truncation != "left" else []
        yield _with_cut(tokens, before, after, name)


def _unpaired(
    rows: Sequence[dict[str, Any]], template: ChatTemplate, options: TokenizeOptions
) -> Iterator[PreviewRow]:
    options = without_split(options)
    for row in rows:
        example = encode_unpaired(row, template)
        name = "Good completion" if row["label"] else "Bad completion"
        if example is None:
            yield PreviewRow([], f"{name}. {LEFT_OUT}")
            continue
        parts = options.truncate(example)
        if not parts:
            yield _left_out(example, options)
        for part in parts:
            yield _with_cut(_row_roles(part, template), part.cut_before, part.cut_after, name)


def _qa_windows(
    rows: Sequence[dict[str, Any]], template: ChatTemplate, options: TokenizeOptions
) -> Iterator[PreviewRow]:
    for row in rows:
        windows = encode_qa(row, template.tokenizer, options.max_length)
        if not windows:
            yield PreviewRow([], "Left out: the question leaves no tokens for the context")
        for number, window in enumerate(windows, 1):
            name = f"Window {number} of {len(windows)}" if len(windows) > 1 else ""
            yield PreviewRow(_row_roles(window, template), name)


def _summaries(
    rows: Sequence[dict[str, Any]], template: ChatTemplate, options: TokenizeOptions
) -> Iterator[PreviewRow]:
    for row in rows:
        example = encode_seq2seq(row, template, options)
        if example is None:
            yield PreviewRow([], LEFT_OUT)
        else:
            tokens = _row_roles(example, template)
            yield _with_cut(tokens, example.cut_before, example.cut_after)


def _left_out(example: TokenizedExample, options: TokenizeOptions) -> PreviewRow:
    """Return an example that is not trained on: too long, or without a trained token."""
    if example.trained_tokens and options.truncation == "delete":
        return _with_cut([], [], example.input_ids, "Left out: too long")
    limit = options.max_length
    kept: list[TokenRole] = [(token, "masked") for token in example.input_ids[:limit]]
    return _with_cut(kept, [], example.input_ids[limit:], LEFT_OUT)


def _with_cut(
    tokens: list[TokenRole], before: list[int], after: list[int], name: str = ""
) -> PreviewRow:
    head: list[TokenRole] = [(token, "cut") for token in before[-MAX_CUT_SHOWN:]]
    tail: list[TokenRole] = [(token, "cut") for token in after[:MAX_CUT_SHOWN]]
    cut_more = len(before) + len(after) - len(head) - len(tail)
    return PreviewRow([*head, *tokens, *tail], name, cut_more)


def _roles(batch: dict[str, Any], template: ChatTemplate) -> Iterator[list[TokenRole]]:
    """Yield token ids and roles of each row of a collated batch."""
    ids, labels = batch["input_ids"].tolist(), batch["labels"].tolist()
    masks = batch["attention_mask"].tolist() if "attention_mask" in batch else None
    for index, (row_ids, row_labels) in enumerate(zip(ids, labels, strict=True)):
        mask = masks[index] if masks else [1] * len(row_ids)
        yield [
            (token, _role(token, label, is_read, template))
            for token, label, is_read in zip(row_ids, row_labels, mask, strict=True)
        ]


def _row_roles(example: TokenizedExample, template: ChatTemplate) -> list[TokenRole]:
    pairs = zip(example.input_ids, example.labels, strict=True)
    return [(token, _role(token, label, 1, template)) for token, label in pairs]


def _role(token: int, label: int, is_read: int, template: ChatTemplate) -> Role:
    if not is_read:
        return "pad"
    if label == IGNORE_INDEX:
        return "masked"
    return "end" if token in template.stop_ids else "trained"
