"""What happened to rows on their way to tokens, counted, and the notes that come of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from modelforge.errors import Problem
from modelforge.modeling.tokenize.encode import TURNS_ONLY, Dialect, Encoded
from modelforge.modeling.tokenize.options import Manner

Note = tuple[str, str]

_LONG = {
    "right": ("rows-cut", "longer than {most:,} tokens and cut there."),
    "left": ("rows-cut", "longer than {most:,} tokens; only the end is kept."),
    "split": ("rows-split", "longer than {most:,} tokens and split into several."),
    "delete": ("rows-deleted", "longer than {most:,} tokens and left out."),
}


@dataclass
class Counts:
    """`trained` and `read` are tokens, `rewritten` and `lost` answers, the others rows."""

    rows: int = 0
    trained: int = 0
    read: int = 0
    cut: int = 0
    dropped: int = 0
    turnless: int = 0
    tooled: int = 0
    rewritten: int = 0
    lost: int = 0

    def take(
        self, row: dict[str, Any], found: Encoded, manner: Manner, *, held_out: bool = False
    ) -> list[Encoded]:
        """Count one row and return the pieces of it that are trained, or checked on."""
        pieces = manner.fit(found, held_out=held_out)
        learnable = found.trained > 0
        is_long = len(found.ids) > manner.max_length and not manner.left_whole
        self.rows += 1
        self.trained += sum(piece.trained for piece in pieces)
        self.read += sum(len(piece.ids) for piece in pieces)
        self.cut += is_long and learnable
        # A row that is left out for its length alone was asked to be.
        asked = is_long and learnable and manner.truncation == "delete"
        self.dropped += not pieces and not asked
        self.turnless += "text" in row and manner.loss_on in TURNS_ONLY
        self.tooled += "tools" in row
        self.rewritten += found.rewritten
        self.lost += found.lost
        return pieces

    def __add__(self, other: Counts) -> Counts:
        """Return both together."""
        mine, theirs = asdict(self), asdict(other)
        return Counts(**{name: mine[name] + theirs[name] for name in mine})

    def notes(self, manner: Manner, dialect: Dialect) -> Iterator[Note]:
        """Yield what a person may want to know of it, each with its code."""
        if self.cut:
            code, text = _LONG[manner.truncation]
            yield code, f"{_rows(self.cut)} {text.format(most=manner.max_length)}"
        if dropped := self.dropped - self.turnless:
            text = f"{_rows(dropped)} left out: no answer fits, or the template refuses it."
            yield "rows-dropped", text
        if self.turnless:
            text = f"{_rows(self.turnless)} left out: plain text has no assistant turn to learn."
            yield "rows-without-turns", text
        if self.rewritten:
            text = f"The chat template rewrites {_answers(self.rewritten)}; its words are learned."
            yield "answers-rewritten", text
        if self.lost:
            text = (
                f"{_answers(self.lost).capitalize()} cannot be told from the rest in what the "
                "chat template writes, and so are not learned."
            )
            yield "answers-unmarked", text
        if self.tooled and not dialect.writes_tools:
            text = "The chat template has no place for tools: the model does not see which it has."
            yield "tools-unwritten", text

    def nothing(self, manner: Manner) -> Problem:
        """Return why not one token of these rows would be learned."""
        if self.turnless and self.turnless == self.dropped:
            return Problem(
                "data.loss_on",
                f"{manner.loss_on} learns from turns, and plain text has none.",
                "Learn from completion, which learns the whole of a text.",
            )
        if self.lost and self.lost >= self.dropped:
            return Problem(
                "model.chat_template",
                "No answer can be told from the rest in what the chat template writes.",
                "Choose another chat template, or learn from all tokens (data.loss_on: all).",
            )
        return Problem(
            "dataset",
            f"None of the {self.rows:,} training rows has an answer within "
            f"{manner.max_length:,} tokens.",
            "Raise the longest row (max_seq_length), or shorten the questions.",
        )


def _rows(count: int) -> str:
    return "1 row is" if count == 1 else f"{count:,} rows are"


def _answers(count: int) -> str:
    return "one answer" if count == 1 else f"{count:,} answers"
