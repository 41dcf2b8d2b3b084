"""What happened to rows on their way to tokens, counted, and the notes that come of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from modelforge.errors import Problem
from modelforge.modeling.tokenize.encode import NEEDS_MESSAGES, TokenizedExample
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.template import ChatTemplate

Note = tuple[str, str]

_LONG = {
    "right": ("rows-cut", "longer than {most:,} tokens and cut there."),
    "left": ("rows-cut", "longer than {most:,} tokens; only the end is kept."),
    "split": ("rows-split", "longer than {most:,} tokens and split into several."),
    "delete": ("rows-deleted", "longer than {most:,} tokens and left out."),
}


@dataclass
class TokenizeCounts:
    """`trained` and `read` are tokens, `rewritten` and `lost` answers, the others rows."""

    rows: int = 0
    trained_tokens: int = 0
    all_tokens: int = 0
    truncated: int = 0
    dropped: int = 0
    without_messages: int = 0
    with_tools: int = 0
    rewritten_answers: int = 0
    unmatched_answers: int = 0

    def add(
        self,
        row: dict[str, Any],
        found: TokenizedExample,
        manner: TokenizeOptions,
        *,
        held_out: bool = False,
    ) -> list[TokenizedExample]:
        """Count one row and return the pieces of it that are trained, or checked on."""
        pieces = manner.truncate(found, held_out=held_out)
        learnable = found.trained_tokens > 0
        is_long = len(found.input_ids) > manner.max_length and not manner.packing_truncates
        self.rows += 1
        self.trained_tokens += sum(piece.trained_tokens for piece in pieces)
        self.all_tokens += sum(len(piece.input_ids) for piece in pieces)
        self.truncated += is_long and learnable
        # A row that is left out for its length alone was asked to be.
        asked = is_long and learnable and manner.truncation == "delete"
        self.dropped += not pieces and not asked
        self.without_messages += "text" in row and manner.loss_on in NEEDS_MESSAGES
        self.with_tools += "tools" in row
        self.rewritten_answers += found.rewritten
        self.unmatched_answers += found.unmatched
        return pieces

    def __add__(self, other: TokenizeCounts) -> TokenizeCounts:
        """Return both together."""
        mine, theirs = asdict(self), asdict(other)
        return TokenizeCounts(**{name: mine[name] + theirs[name] for name in mine})

    def notes(self, manner: TokenizeOptions, dialect: ChatTemplate) -> Iterator[Note]:
        """Yield what a person may want to know of it, each with its code."""
        if self.truncated:
            code, text = _LONG[manner.truncation]
            yield code, f"{_rows(self.truncated)} {text.format(most=manner.max_length)}"
        if dropped := self.dropped - self.without_messages:
            text = f"{_rows(dropped)} left out: no answer fits, or the template refuses it."
            yield "rows-dropped", text
        if self.without_messages:
            rows = _rows(self.without_messages)
            text = f"{rows} left out: plain text has no assistant turn to learn."
            yield "rows-without-turns", text
        if self.rewritten_answers:
            answers = _answers(self.rewritten_answers)
            text = f"The chat template rewrites {answers}; its words are learned."
            yield "answers-rewritten", text
        if self.unmatched_answers:
            text = (
                f"{_answers(self.unmatched_answers).capitalize()} cannot be told from the rest in "
                "what the chat template writes, and so are not learned."
            )
            yield "answers-unmarked", text
        if self.with_tools and not dialect.supports_tools:
            text = "The chat template has no place for tools: the model does not see which it has."
            yield "tools-unwritten", text

    def nothing_to_learn(self, manner: TokenizeOptions) -> Problem:
        """Return why not one token of these rows would be learned."""
        if self.without_messages and self.without_messages == self.dropped:
            return Problem(
                "data.loss_on",
                f"{manner.loss_on} learns from turns, and plain text has none.",
                "Learn from completion, which learns the whole of a text.",
            )
        if self.unmatched_answers and self.unmatched_answers >= self.dropped:
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
