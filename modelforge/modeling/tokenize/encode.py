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
from modelforge.modeling.tokenize.render import Span, Written, write
from modelforge.modeling.tokenize.template import Dialect, Offsets, learn_dialect, offsets_of

__all__ = [
    "IGNORED", "TURNS_ONLY", "Dialect", "Encoded", "LossOn", "Truncation", "cut", "encode",
    "learn_dialect",
]  # fmt: skip

IGNORED = -100
LossOn = Literal["completion", "assistant", "last_round", "all"]
Truncation = Literal["delete", "left", "right", "split"]
# Plain text has no turns, so these leave nothing of it to learn.
TURNS_ONLY = ("assistant", "last_round")


@dataclass(frozen=True)
class Encoded:
    """One row as tokens. `labels` repeats the trained ids and holds -100 elsewhere.

    `before` and `after` are the ids that were cut off; `rewritten` and `lost` count answers that
    the template has changed, or that cannot be told from the rest.
    """

    ids: list[int]
    labels: list[int]
    before: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    rewritten: int = 0
    lost: int = 0

    @property
    def trained(self) -> int:
        """The number of tokens that are trained."""
        return sum(label != IGNORED for label in self.labels)

    @property
    def cut(self) -> bool:
        """Whether something was cut off."""
        return bool(self.before or self.after)


def encode(
    rows: Sequence[dict[str, Any]],
    dialect: Dialect,
    loss_on: LossOn = "completion",
    *,
    after: int = 0,
) -> list[Encoded]:
    """Return the tokens of canonical rows, whole, each {"messages": [...]} or {"text": ...}.

    A conversation that the template cannot write comes back without a trained token. The first
    `after` answers of each are never trained. Raises DataError for rows of another kind.
    """
    written = [_written(row, dialect) for row in rows]
    chats = ["" if one is None else one.text for one in written]
    plain = [row.get("text", "") for row in rows]
    encoded_chats = offsets_of(dialect.tokenizer, chats, special=False)
    encoded_plain = (
        offsets_of(dialect.tokenizer, plain, special=True) if any(plain) else encoded_chats
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
        labels = _labels(ids, owners, _turns(one, loss_on, after))
        result.append(Encoded(ids, labels, rewritten=one.rewritten, lost=one.lost))
    return result


def cut(row: Encoded, max_length: int, strategy: Truncation) -> list[Encoded]:
    """Return the row in the pieces that are trained: one as a rule, none when it is left out."""
    length = len(row.ids)
    if length <= max_length:
        return [row]
    if strategy == "delete":
        return []
    if strategy == "split":
        return [
            Encoded(row.ids[at : at + max_length], row.labels[at : at + max_length])
            for at in range(0, length, max_length)
        ]
    if strategy == "left":
        at = length - max_length
        return [Encoded(row.ids[at:], row.labels[at:], before=row.ids[:at])]
    after = row.ids[max_length:]
    return [Encoded(row.ids[:max_length], row.labels[:max_length], after=after)]


def _written(row: dict[str, Any], dialect: Dialect) -> Written | None:
    if "text" in row:
        return None
    if "messages" not in row:
        what = "It holds neither conversations nor plain text, which is what is learned here."
        remedy = "Give rows with a question and an answer, conversations, or plain text."
        raise DataError(Problem("dataset", what, remedy))
    return write(row["messages"], dialect, row.get("tools"))


def _turns(written: Written, loss_on: LossOn, after: int) -> frozenset[int] | None:
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
    return [token if owner in turns else IGNORED for token, owner in pairs]


def _cuts(written: Written) -> list[int]:
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
    found = offsets_of(tokenizer, pieces, special=False)
    for at, (tokens, places) in zip(cuts, found, strict=False):
        ids += tokens
        offsets += [(begin + at, end + at) for begin, end in places]
    return ids, offsets


def _owned(
    ids: list[int], offsets: Offsets, spans: list[Span], dialect: Dialect
) -> tuple[list[int], list[int]]:
    """Return the tokens, end tokens put in, and of each the turn it is the answer of, or -1."""
    read: list[int] = []
    owners: list[int] = []
    waiting = list(spans)

    def close(span: Span) -> None:
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


def _whole(ids: list[int], dialect: Dialect, loss_on: LossOn) -> Encoded:
    eos = dialect.tokenizer.eos_token_id
    end = eos if eos in dialect.stops else dialect.end_id
    if ids and ids[-1] != end:
        ids = [*ids, end]
    return Encoded(ids, [IGNORED] * len(ids) if loss_on in TURNS_ONLY else list(ids))
