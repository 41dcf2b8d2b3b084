"""Encode rows as token ids and labels, and truncate them.

By default only answers are trained: every assistant message including its end token; plain text is
trained whole. Used both for training and for the token preview.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

from modelforge.errors import DataError, Problem
from modelforge.modeling.tokenize.loss_weights import ADDED, LossWeights
from modelforge.modeling.tokenize.render import AnswerSpan, RenderedChat, render_chat
from modelforge.modeling.tokenize.template import ChatTemplate, Offsets, tokenize_with_offsets

IGNORE_INDEX = -100
LossOn = Literal["completion", "assistant", "last_round", "all"]
TruncationStrategy = Literal["delete", "left", "right", "split"]
# These train messages, which plain text does not have.
NEEDS_MESSAGES = ("assistant", "last_round")
NO_WEIGHTS = LossWeights()


@dataclass(frozen=True)
class TokenizedExample:
    """One example as token ids.

    Attributes:
        input_ids: Token ids, length seq.
        labels: Token ids where trained, -100 elsewhere; length seq.
        cut_before: Token ids that were cut off at the beginning.
        cut_after: Token ids that were cut off at the end.
        rewritten: Number of answers that the template changed.
        unmatched: Number of answers that were not found in the rendered text.
        weights: Weight of the loss of each token, length seq; None where all trained ones have 1.
    """

    input_ids: list[int]
    labels: list[int]
    cut_before: list[int] = field(default_factory=list)
    cut_after: list[int] = field(default_factory=list)
    rewritten: int = 0
    unmatched: int = 0
    weights: list[float] | None = None

    def part(self, start: int, end: int) -> TokenizedExample:
        """Return the tokens from `start` to before `end`."""
        weights = None if self.weights is None else self.weights[start:end]
        return TokenizedExample(self.input_ids[start:end], self.labels[start:end], weights=weights)

    @property
    def trained_tokens(self) -> int:
        """The number of tokens with a loss."""
        return sum(label != IGNORE_INDEX for label in self.labels)

    @property
    def is_truncated(self) -> bool:
        """Whether tokens were cut off."""
        return bool(self.cut_before or self.cut_after)


def encode(
    rows: Sequence[dict[str, Any]],
    template: ChatTemplate,
    loss_on: LossOn = "completion",
    *,
    skip_answers: int = 0,
    weights: LossWeights = NO_WEIGHTS,
) -> list[TokenizedExample]:
    """Encode canonical rows with `messages` or `text`, not truncated.

    A conversation that the template refuses has no trained token. The first `skip_answers` answers
    of each conversation are not trained.

    Raises:
        DataError: A row has neither messages nor text.
    """
    chats = [_render(row, template) for row in rows]
    chat_texts = ["" if chat is None else chat.text for chat in chats]
    plain_texts = ["" if "segments" in row else row.get("text", "") for row in rows]
    encoded_chats = tokenize_with_offsets(template.tokenizer, chat_texts, special=False)
    encoded_plain = encoded_chats
    if any(plain_texts):
        encoded_plain = tokenize_with_offsets(template.tokenizer, plain_texts, special=True)
    examples = []
    parts = zip(rows, chats, encoded_chats, encoded_plain, strict=True)
    for row, chat, encoded_chat, (plain_ids, _) in parts:
        if "segments" in row:
            examples.append(_segment_example(row, template, loss_on))
        elif chat is None:
            examples.append(_plain_example(plain_ids, template, loss_on))
        else:
            trained = _trained_messages(chat, loss_on, skip_answers)
            examples.append(_chat_example(chat, encoded_chat, template, trained, weights))
    return examples


def truncate(
    example: TokenizedExample, max_length: int, strategy: TruncationStrategy
) -> list[TokenizedExample]:
    """Return the example in parts of at most `max_length` tokens: none if it is deleted."""
    ids, length = example.input_ids, len(example.input_ids)
    if length <= max_length:
        return [example]
    if strategy == "delete":
        return []
    if strategy == "split":
        return [example.part(at, at + max_length) for at in range(0, length, max_length)]
    if strategy == "left":
        at = length - max_length
        return [replace(example.part(at, length), cut_before=ids[:at])]
    return [replace(example.part(0, max_length), cut_after=ids[max_length:])]


def _render(row: dict[str, Any], template: ChatTemplate) -> RenderedChat | None:
    if "text" in row:
        return None
    if "messages" not in row:
        what = "The rows are neither conversations nor plain text, which this run trains on."
        remedy = "Give rows with a prompt and an answer, conversations, or plain text."
        raise DataError(Problem("dataset", what, remedy))
    return render_chat(row["messages"], template, row.get("tools"))


def _trained_messages(chat: RenderedChat, loss_on: LossOn, skip_answers: int) -> frozenset[int]:
    """Return the indices of the messages to train, -1 for everything between answers."""
    if loss_on == "all":
        return frozenset({-1, *chat.answers}) - chat.untrained
    answers = chat.answers[-1:] if loss_on == "last_round" else chat.answers[skip_answers:]
    return frozenset(answers) - chat.untrained


def _chat_example(
    chat: RenderedChat,
    encoded: tuple[list[int], Offsets],
    template: ChatTemplate,
    trained: frozenset[int],
    loss_weights: LossWeights,
) -> TokenizedExample:
    boundaries = _boundaries(chat)
    starts = {start for start, _ in encoded[1]}
    if any(boundary not in starts for boundary in boundaries):
        encoded = _tokenize_in_pieces(template.tokenizer, chat.text, boundaries)
    ids, owners, positions = _assign(*encoded, chat.spans, template)
    weights = None
    if loss_weights.is_active:
        weights = loss_weights.of_tokens(chat, owners, positions, trained)
        is_trained = [weight > 0 for weight in weights]
    else:
        is_trained = [owner in trained for owner in owners]
    labels = [
        token if trains else IGNORE_INDEX for token, trains in zip(ids, is_trained, strict=True)
    ]
    return TokenizedExample(
        ids, labels, rewritten=chat.rewritten, unmatched=chat.unmatched, weights=weights
    )


def _boundaries(chat: RenderedChat) -> list[int]:
    """Return the characters that a token must not cross: starts of answers, and missing ends."""
    spans = [span for span in chat.spans if span.start < span.end]
    ends = {span.end for span in spans if span.needs_end and span.end < len(chat.text)}
    return sorted({span.start for span in spans} | ends)


def _tokenize_in_pieces(
    tokenizer: Any, text: str, boundaries: list[int]
) -> tuple[list[int], Offsets]:
    """Tokenize the text between the boundaries, as a prompt is tokenized alone in chat."""
    bounds = [0, *boundaries, len(text)]
    pieces = [text[begin:end] for begin, end in pairwise(bounds)]
    ids: list[int] = []
    offsets: Offsets = []
    encoded = tokenize_with_offsets(tokenizer, pieces, special=False)
    for start, (piece_ids, piece_offsets) in zip(bounds, encoded, strict=False):
        ids += piece_ids
        offsets += [(begin + start, end + start) for begin, end in piece_offsets]
    return ids, offsets


def _assign(
    ids: list[int], offsets: Offsets, spans: list[AnswerSpan], template: ChatTemplate
) -> tuple[list[int], list[int], list[int]]:
    """Return the ids with missing end tokens added, the message each answers, and its start.

    -1 is a token of no answer, or one that is not in the text.
    """
    result: list[int] = []
    owners: list[int] = []
    starts: list[int] = []
    remaining = list(spans)

    def close(span: AnswerSpan) -> None:
        if span.needs_end:
            result.append(template.end_id)
            owners.append(span.message)
            starts.append(ADDED)

    for token, (begin, end) in zip(ids, offsets, strict=True):
        while remaining and begin >= remaining[0].end:
            close(remaining.pop(0))
        is_inside = bool(remaining) and end > begin >= remaining[0].start
        result.append(token)
        owners.append(remaining[0].message if is_inside else -1)
        starts.append(begin)
    for span in remaining:
        close(span)
    return result, owners, starts


def _plain_example(ids: list[int], template: ChatTemplate, loss_on: LossOn) -> TokenizedExample:
    eos = template.tokenizer.eos_token_id
    end = eos if eos in template.stop_ids else template.end_id
    if ids and ids[-1] != end:
        ids = [*ids, end]
    labels = [IGNORE_INDEX] * len(ids) if loss_on in NEEDS_MESSAGES else list(ids)
    return TokenizedExample(ids, labels)


def _segment_example(
    row: dict[str, Any], template: ChatTemplate, loss_on: LossOn
) -> TokenizedExample:
    """Tokenize each segment alone and as written: no template, no tokens at start and end."""
    text, segments = row["text"], row["segments"]
    pieces = [text[start:end] for start, end, _ in segments]
    trained = [index for index, (_, _, is_trained) in enumerate(segments) if is_trained]
    if loss_on == "all":
        trained = list(range(len(segments)))
    elif loss_on == "last_round":
        trained = trained[-1:]
    ids: list[int] = []
    labels: list[int] = []
    encoded = tokenize_with_offsets(template.tokenizer, pieces, special=False)
    for index, (piece_ids, _) in enumerate(encoded):
        ids += piece_ids
        labels += piece_ids if index in trained else [IGNORE_INDEX] * len(piece_ids)
    return TokenizedExample(ids, labels)
