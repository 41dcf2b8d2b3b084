"""Options of tokenizing: which tokens are trained, and how long rows are truncated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelforge.config.methods import METHOD_FACTS, Head, Method
from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.canonical.qa import to_chat_example
from modelforge.modeling.tokenize.encode import (
    NO_WEIGHTS,
    LossOn,
    TokenizedExample,
    TruncationStrategy,
    encode,
    truncate,
)
from modelforge.modeling.tokenize.loss_weights import LossWeights
from modelforge.modeling.tokenize.template import ChatTemplate


@dataclass(frozen=True)
class TokenizeOptions:
    """How the rows of one run are tokenized.

    Attributes:
        max_length: Maximum tokens of an example.
        loss_on: Which tokens are trained.
        truncation: What happens to longer examples.
        packing_truncates: Training examples stay whole, because packing splits them itself.
        method: The training method; its head decides what rows with a context become.
        weights: Weights of the loss of tokens.
    """

    max_length: int
    loss_on: LossOn = "completion"
    truncation: TruncationStrategy = "right"
    packing_truncates: bool = False
    method: Method = "sft"
    weights: LossWeights = NO_WEIGHTS

    @classmethod
    def from_plan(cls, config: TrainingConfig, plan: Plan) -> TokenizeOptions:
        """Return the options of a run."""
        data = config.data
        # These packing strategies lose no tokens, so they replace the default truncation.
        packing_splits = config.packing and data.packing_strategy != "bfd"
        is_default = "truncation_strategy" not in data.model_fields_set
        return cls(
            max_length=plan.max_length,
            method=plan.method,
            loss_on=data.loss_on,
            truncation=data.truncation_strategy,
            packing_truncates=packing_splits
            and (is_default or data.truncation_strategy == "split"),
            weights=LossWeights.from_settings(data),
        )

    @property
    def head(self) -> Head:
        """The head of the model that the method trains."""
        return METHOD_FACTS[self.method].head

    def encode(
        self, rows: Sequence[dict[str, Any]], template: ChatTemplate
    ) -> list[TokenizedExample]:
        """Return canonical rows as tokens, not truncated."""
        return encode(self.prepare(rows), template, self.loss_on, weights=self.weights)

    def prepare(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return canonical rows in the form of this method: decoders answer questions in chats."""
        if self.head == "span":
            return list(rows)
        return [to_chat_example(row) if "context" in row else row for row in rows]

    def truncate(
        self, example: TokenizedExample, *, is_eval: bool = False
    ) -> list[TokenizedExample]:
        """Return the parts of an example that have trained tokens."""
        if not self.packing_truncates:
            parts = truncate(example, self.max_length, self.truncation)
        elif is_eval:
            parts = truncate(example, self.max_length, "split")
        else:
            parts = [example]
        return [part for part in parts if part.trained_tokens]
