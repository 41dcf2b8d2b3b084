"""Measure whether any prompt of the data leaves room for a completion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig

# More rows are not measured: if none of these fits, the finding is a caution.
MAX_ROWS = 1_000
# A token rarely has more characters, so that a text of so many per token of the limit is too long.
_MAX_CHARS_PER_TOKEN = 16
CountTokens = Callable[[str], int]


@dataclass(frozen=True)
class LongPrompts:
    """Prompts of which none leaves room for a completion.

    Args:
        rows: prompts that were measured.
        shortest: tokens of the shortest, without the chat template.
        limit: tokens that a prompt may have.
        is_all: whether all rows were measured.
    """

    rows: int
    shortest: int
    limit: int
    is_all: bool


def max_prompt_tokens(config: TrainingConfig, plan: Plan) -> int | None:
    """Return the tokens that a prompt may have; None if long prompts do not make rows useless."""
    if plan.facts.generates:
        return max(0, plan.max_length - plan.max_completion_length)
    is_cut = config.data.truncation_strategy in ("right", "delete")
    splits_rows = config.packing or config.data.loss_on == "all"
    if plan.facts.head != "causal" or splits_rows or not is_cut:
        return None
    return plan.max_length - 1


def may_be_too_long(rows: Sequence[dict[str, Any]], limit: int) -> bool:
    """Return whether the prompts of these rows are all so long that measuring them is worth it."""
    texts = [prompt_text(row) for row in rows]
    return bool(texts) and all(text and len(text.encode()) > 2 * limit for text in texts)


def measure_prompts(
    rows: Iterable[dict[str, Any]], limit: int, count_tokens: CountTokens
) -> LongPrompts | None:
    """Return the lengths of the prompts if all are longer than `limit`; None if one fits.

    Answers before the last question and the chat template are not counted, so that every prompt has
    at least so many tokens.
    """
    counts: list[int] = []
    for row in rows:
        if len(counts) == MAX_ROWS:
            return LongPrompts(MAX_ROWS, min(counts), limit, is_all=False)
        text = prompt_text(row)
        if not text:
            return None
        counts.append(count_tokens(text[: _MAX_CHARS_PER_TOKEN * (limit + 1)]))
        if counts[-1] <= limit:
            return None
    return LongPrompts(len(counts), min(counts), limit, is_all=True) if counts else None


def prompt_text(row: dict[str, Any]) -> str:
    """Return what users and tools write before the first trained answer; "" for plain text."""
    messages = row.get("prompt")
    if messages is None:
        messages = row.get("messages") or []
        answers = (at for at, each in enumerate(messages) if each["role"] == "assistant")
        messages = messages[: next(answers, 0)]
    return "\n".join(each["content"].strip() for each in messages if each["role"] != "assistant")
