"""Rows to tokens: what the model reads, what of it is trained, and what becomes of long rows.

Usually only answers are trained: every assistant turn of a conversation, up to and with its end
token; a `text` row whole. Pure functions, used for training and to show people their tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from modelforge.errors import DataError, Problem
from modelforge.modeling.tokenize.render import AnswerSpan, RenderedChat, render_chat
from modelforge.modeling.tokenize.template import (
    ChatTemplate,
    Offsets,
    tokenize_with_offsets,
)

IGNORE_INDEX = -100
LossOn = Literal["completion", "assistant", "last_round", "all"]
TruncationStrategy = Literal["delete", "left", "right", "split"]
# Plain text has no turns, so these leave nothing of it to learn.
NEEDS_MESSAGES = ("assistant", "last_round")


@dataclass(frozen=True)
class TokenizedExample:
    """One row as tokens. `labels` repeats the trained ids and holds -100 elsewhere.

    `before` and `after` are the ids that were cut off; `rewritten` and `lost` count answers that
    the template has changed, or that cannot be told from the rest.
    """

    input_ids: list[int]
    labels: list[int]
    cut_before: list[int] = field(default_factory=list)
    cut_after: list[int] = field(default_factory=list)
    rewritten: int = 0
    unmatched: int = 0

    @property
    def trained_tokens(self) -> int:
        """The number of tokens that are trained."""
        return sum(label != IGNORE_INDEX for label in self.labels)

    @property
    def is_truncated(self) -> bool:
        """Whether something was cut off."""
        return bool(self.cut_before or self.cut_after)


def encode(
    rows: Sequence[dict[str, Any]],
    dialect: ChatTemplate,
    loss_on: LossOn = "completion",
    *,
    skip_answers: int = 0,
) -> list[TokenizedExample]:
    """Return the tokens of canonical rows, whole, each {"messages": [...]} or {"text": ...}.

    A conversation that the template cannot write comes back without a trained token. The first
    `after` answers of each are never trained. Raises DataError for rows of another kind.
    """
    written = [_written(row, dialect) for row in rows]
    chats = ["" if one is None else one.text for one in written]
    plain = [row.get("text", "") for row in rows]
    encoded_chats = tokenize_with_offsets(dialect.tokenizer, chats, special=False)
    encoded_plain = (
        tokenize_with_offsets(dialect.tokenizer, plain, special=True)
        if any(plain)
        else encoded_chats
    )
    result = []
    for one, chat, text in zip(written, encoded_chats, encoded_plain, strict=True):
        if one is None:
            result.append(_whole(text[0], dialect, loss_on))
            continue
        cuts = _cuts(one)
        if _straddles(chat[1], cuts):
            chat = _in_pieces(dialect.tokenizer, one.text, cuts)  # noqa: PLW2901
        ids, owners = _owned(*chat, one.spans, dialect)
        labels = _labels(ids, owners, _turns(one, loss_on, skip_answers))
        result.append(TokenizedExample(ids, labels, rewritten=one.rewritten, unmatched=one.lost))
    return result


def truncate(
    row: TokenizedExample, max_length: int, strategy: TruncationStrategy
) -> list[TokenizedExample]:
    """Return the row in the pieces that are trained: one as a rule, none when it is left out."""
    length = len(row.input_ids)
    if length <= max_length:
        return [row]
    if strategy == "delete":
        return []
    if strategy == "split":
        return [
            TokenizedExample(row.input_ids[at : at + max_length], row.labels[at : at + max_length])
            for at in range(0, length, max_length)
        ]
    if strategy == "left":
        at = length - max_length
        return [
            TokenizedExample(row.input_ids[at:], row.labels[at:], cut_before=row.input_ids[:at])
        ]
    after = row.input_ids[max_length:]
    return [TokenizedExample(row.input_ids[:max_length], row.labels[:max_length], cut_after=after)]


def _written(row: dict[str, Any], dialect: ChatTemplate) -> RenderedChat | None:
    if "text" in row:
        return None
    if "messages" not in row:
        what = "It holds neither conversations nor plain text, which is what is learned here."
        remedy = "Give rows with a question and an answer, conversations, or plain text."
        raise DataError(Problem("dataset", what, remedy))
    return render_chat(row["messages"], dialect, row.get("tools"))


def _turns(written: RenderedChat, loss_on: LossOn, after: int) -> frozenset[int] | None:
    """Return the turns whose answers are trained; None means every token."""
    if loss_on == "all":
        return None
    if loss_on != "last_round":
        late = set(written.answers[after:])
        return frozenset(span.turn for span in written.spans if span.turn in late)
    return frozenset(written.answers[-1:])


def _labels(ids: list[int], owners: list[int], turns: frozenset[int] | None) -> list[int]:
    if turns is None:
        return list(ids)
    pairs = zip(ids, owners, strict=True)
    return [token if owner in turns else IGNORE_INDEX for token, owner in pairs]


def _cuts(written: RenderedChat) -> list[int]:
    """Return the places that no token may lie across: where answers begin, and open ones end."""
    spans = [span for span in written.spans if span.start < span.end]
    ends = {span.end for span in spans if span.is_open and span.end < len(written.text)}
    return sorted({span.start for span in spans} | ends)


def _straddles(offsets: Offsets, cuts: list[int]) -> bool:
    begins = {begin for begin, _ in offsets}
    return any(place not in begins for place in cuts)


def _in_pieces(tokenizer: Any, text: str, inner: list[int]) -> tuple[list[int], Offsets]:
    """Return the tokens of `text` with none across a cut.

    In chat the prompt is tokenized alone, so a prompt that ends in a space keeps it.
    """
    cuts = [0, *inner, len(text)]
    pieces = [text[begin:end] for begin, end in pairwise(cuts)]
    ids: list[int] = []
    offsets: Offsets = []
    found = tokenize_with_offsets(tokenizer, pieces, special=False)
    for at, (tokens, places) in zip(cuts, found, strict=False):
        ids += tokens
        offsets += [(begin + at, end + at) for begin, end in places]
    return ids, offsets


def _owned(
    ids: list[int], offsets: Offsets, spans: list[AnswerSpan], dialect: ChatTemplate
) -> tuple[list[int], list[int]]:
    """Return the tokens, end tokens put in, and of each the turn it is the answer of, or -1."""
    read: list[int] = []
    owners: list[int] = []
    waiting = list(spans)

    def close(span: AnswerSpan) -> None:
        if span.is_open:
            read.append(dialect.end_id)
            owners.append(span.turn)

    for token, (begin, end) in zip(ids, offsets, strict=True):
        while waiting and begin >= waiting[0].end:
            close(waiting.pop(0))
        inside = bool(waiting) and end > begin >= waiting[0].start
        read.append(token)
        owners.append(waiting[0].turn if inside else -1)
    for span in waiting:
        close(span)
    return read, owners


def _whole(ids: list[int], dialect: ChatTemplate, loss_on: LossOn) -> TokenizedExample:
    eos = dialect.tokenizer.eos_token_id
    end = eos if eos in dialect.stop_ids else dialect.end_id
    if ids and ids[-1] != end:
        ids = [*ids, end]
    return TokenizedExample(
        ids, [IGNORE_INDEX] * len(ids) if loss_on in NEEDS_MESSAGES else list(ids)
    )
