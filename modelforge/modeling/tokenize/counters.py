"""Counts of what tokenizing did to the rows, and the notes for the user about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from modelforge.errors import Problem
from modelforge.modeling.tokenize.encode import NEEDS_MESSAGES, TokenizedExample
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.template import ChatTemplate

Note = tuple[str, str]

_TRUNCATED = {
    "right": ("rows-cut", "longer than {limit:,} tokens and cut off there."),
    "left": ("rows-cut", "longer than {limit:,} tokens; only the last ones are kept."),
    "split": ("rows-split", "longer than {limit:,} tokens and split into several examples."),
    "delete": ("rows-deleted", "longer than {limit:,} tokens and left out."),
}


@dataclass
class TokenizeCounts:
    """Counts of rows unless a name says tokens or answers.

    `dropped` rows have no trained token, and of these `without_messages` are plain text. The
    template changed `rewritten_answers`; `unmatched_answers` were not found in the rendered text.
    """

    rows: int = 0
    trained_tokens: int = 0
    all_tokens: int = 0
    truncated: int = 0
    dropped: int = 0
    without_messages: int = 0
    with_tools: int = 0
    with_reasoning: int = 0
    rewritten_answers: int = 0
    unmatched_answers: int = 0

    def add(
        self,
        row: dict[str, Any],
        example: TokenizedExample,
        options: TokenizeOptions,
        *,
        is_eval: bool = False,
    ) -> list[TokenizedExample]:
        """Count one row and return the truncated examples that it becomes."""
        parts = options.truncate(example, is_eval=is_eval)
        is_long = len(example.input_ids) > options.max_length and not options.packing_truncates
        is_truncated = is_long and example.trained_tokens > 0
        self.rows += 1
        self.trained_tokens += sum(part.trained_tokens for part in parts)
        self.all_tokens += sum(len(part.input_ids) for part in parts)
        self.truncated += is_truncated
        # Rows deleted for their length, as configured, are not counted as dropped.
        self.dropped += not parts and not (is_truncated and options.truncation == "delete")
        is_plain = "text" in row and "segments" not in row
        self.without_messages += is_plain and options.loss_on in NEEDS_MESSAGES
        self.with_tools += "tools" in row
        self.with_reasoning += has_reasoning(row)
        self.rewritten_answers += example.rewritten
        self.unmatched_answers += example.unmatched
        return parts

    def __add__(self, other: TokenizeCounts) -> TokenizeCounts:
        """Return the sums of both counts."""
        mine, theirs = asdict(self), asdict(other)
        return TokenizeCounts(**{name: mine[name] + theirs[name] for name in mine})

    def notes(self, options: TokenizeOptions, template: ChatTemplate) -> Iterator[Note]:
        """Yield code and text of each note for the user."""
        if self.truncated:
            code, text = _TRUNCATED[options.truncation]
            yield code, f"{_rows(self.truncated)} {text.format(limit=options.max_length)}"
        dropped = self.dropped - self.without_messages
        if dropped:
            text = "left out: no answer fits, or the chat template refuses the messages."
            yield "rows-dropped", f"{_rows(dropped)} {text}"
        if self.without_messages:
            text = "left out: plain text has no assistant message to train on."
            yield "rows-without-turns", f"{_rows(self.without_messages)} {text}"
        if self.rewritten_answers:
            answers = _answers(self.rewritten_answers)
            text = f"The chat template changes {answers}; the changed text is trained."
            yield "answers-rewritten", text
        if self.unmatched_answers:
            answers = _answers(self.unmatched_answers)
            text = f"The output of the chat template lacks {answers}, which cannot be trained."
            yield "answers-unmarked", text
        if self.with_tools and not template.supports_tools:
            text = "The chat template does not render tools: the model does not see them."
            yield "tools-unwritten", text
        if self.with_reasoning and template.reasoning_key is None:
            text = "left out, because the chat template does not write it (reasoning_content)."
            count = self.with_reasoning
            rows = "1 row" if count == 1 else f"{count:,} rows"
            yield "reasoning-unwritten", f"The reasoning of {rows} is {text}"

    def nothing_to_learn(self, options: TokenizeOptions) -> Problem:
        """Return why these rows have no trained token."""
        if self.without_messages and self.without_messages == self.dropped:
            return Problem(
                "data.loss_on",
                f"{options.loss_on} trains assistant messages, and plain text has none.",
                "Choose completion, which trains the whole text.",
            )
        if self.unmatched_answers and self.unmatched_answers >= self.dropped:
            return Problem(
                "model.chat_template",
                "No answer was found in the output of the chat template.",
                "Choose another chat template, or train on all tokens (data.loss_on: all).",
            )
        return Problem(
            "dataset",
            f"None of the {self.rows:,} training rows has an answer within "
            f"{options.max_length:,} tokens.",
            "Raise the max sequence length (max_seq_length), or shorten the prompts.",
        )


def has_reasoning(row: dict[str, Any]) -> bool:
    """Return whether an assistant message of a canonical row has reasoning beside its content."""
    parts = (row.get(part, ()) for part in ("messages", "chosen", "rejected", "completion"))
    return any("reasoning_content" in message for part in parts for message in part)


def _rows(count: int) -> str:
    return "1 row is" if count == 1 else f"{count:,} rows are"


def _answers(count: int) -> str:
    return "one answer" if count == 1 else f"{count:,} answers"
