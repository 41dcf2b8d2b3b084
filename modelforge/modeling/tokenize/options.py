"""How rows become tokens in one run: what is learned, and what is done with rows too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelforge.config.methods import Head
from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.canonical.qa import to_chat_example
from modelforge.modeling.tokenize.encode import (
    LossOn,
    TokenizedExample,
    TruncationStrategy,
    encode,
    truncate,
)
from modelforge.modeling.tokenize.template import ChatTemplate


@dataclass(frozen=True)
class TokenizeOptions:
    """`left_whole` rows are cut by packing, which knows better where there is room.

    The `head` decides what a row with a context becomes: words to write, or places to point at.
    """

    max_length: int
    loss_on: LossOn = "completion"
    truncation: TruncationStrategy = "right"
    packing_truncates: bool = False
    head: Head = "causal"

    @classmethod
    def from_plan(cls, config: TrainingConfig, plan: Plan) -> TokenizeOptions:
        """Return what the settings say."""
        data = config.data
        packs_parts = config.packing and data.packing_strategy != "bfd"
        # Packing that cuts rows itself loses none of them, unless a way was asked for.
        asked = "truncation_strategy" in data.model_fields_set and data.truncation_strategy
        return cls(
            max_length=plan.max_length,
            head=plan.facts.head,
            loss_on=data.loss_on,
            truncation=data.truncation_strategy,
            packing_truncates=packs_parts and asked in (False, "split"),
        )

    def encode(
        self, rows: Sequence[dict[str, Any]], dialect: ChatTemplate
    ) -> list[TokenizedExample]:
        """Return the tokens of canonical rows, whole."""
        return encode(self.prepare(rows), dialect, self.loss_on)

    def prepare(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return canonical rows as this method learns them: a decoder answers in words."""
        if self.head == "span":
            return list(rows)
        return [to_chat_example(row) if "context" in row else row for row in rows]

    def truncate(self, row: TokenizedExample, *, held_out: bool = False) -> list[TokenizedExample]:
        """Return the pieces of a row that are trained, or checked on; none is left without one."""
        if self.packing_truncates:
            pieces = truncate(row, self.max_length, "split") if held_out else [row]
        else:
            pieces = truncate(row, self.max_length, self.truncation)
        return [piece for piece in pieces if piece.trained_tokens]
