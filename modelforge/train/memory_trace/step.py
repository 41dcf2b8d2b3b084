"""One step of each method on the meta device: the loss, as its trainer comes to it.

The shapes, what is held beside each other and the order are those of TRL 1.14; what only changes
numbers is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from trl.trainer.sft_trainer import _patch_chunked_ce_lm_head
from trl.trainer.utils import selective_log_softmax, selective_log_softmax_and_entropy

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.modeling.tokenize.collate import END_TO_END


@dataclass(frozen=True)
class Batch:
    """So many rows of so many tokens; `end_to_end` lays them in one, `padded` fills some up."""

    rows: int
    length: int
    end_to_end: bool = False
    padded: bool = False

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """What the collator makes of it."""
        if self.end_to_end:
            shape = 1, self.rows * self.length
            return {"input_ids": numbers(*shape), "position_ids": numbers(*shape)}
        shape = self.rows, self.length
        return {"input_ids": numbers(*shape), "attention_mask": numbers(*shape)}


Step = Callable[[Any, Batch], torch.Tensor]


def batches(config: TrainingConfig, plan: Plan, length: int) -> tuple[Batch, Batch]:
    """Return the largest batch that is trained on, and the largest that is checked on."""
    rows, checked = config.per_device_train_batch_size, config.per_device_eval_batch_size
    facts = plan.facts
    rows = max(facts.min_rows, rows)
    free = facts.joins_rows and config.data.padding_free
    packs = facts.joins_rows and config.packing
    trained = Batch(
        rows,
        plan.max_length if packs else length,
        free or (packs and config.data.packing_strategy in END_TO_END),
        rows > 1 and not packs,
    )
    if facts.generates:
        trained = Batch(rows, length + config.trainer.max_completion_length, padded=rows > 1)
    return trained, Batch(checked, length, free, checked > 1)


def prepare(model: Any, plan: Plan, batch: Batch, reference: Any, *, low: bool) -> Step:
    """Return the step of the plan's method, once `model` is made ready for it.

    `low` says that the model works in 16 bits by autocast, whose outputs come in 32.
    """
    facts = plan.facts
    if facts.chunks_loss:
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        _patch_chunked_ce_lm_head(base, chunk_size=plan.loss_piece)
        return _chunked
    if facts.generates:
        return _Rewarded(batch, low)
    if facts.compares:
        pair = facts.sides == 2
        return _Compared(model, reference, pair, low, compares=facts.needs_reference)
    return _pointed if facts.head == "span" else _rewritten


def numbers(*shape: int) -> torch.Tensor:
    """Return token ids of a shape."""
    return torch.zeros(shape, dtype=torch.int64, device="meta")


def _chunked(model: Any, batch: Batch) -> torch.Tensor:
    inputs = batch.inputs
    made: torch.Tensor = model(**inputs, labels=inputs["input_ids"].clone()).loss
    return made


def _rewritten(model: Any, batch: Batch) -> torch.Tensor:
    made: torch.Tensor = model(**batch.inputs, labels=numbers(batch.rows, batch.length)).loss
    return made


def _pointed(model: Any, batch: Batch) -> torch.Tensor:
    places = numbers(batch.rows)
    made: torch.Tensor = model(**batch.inputs, start_positions=places, end_positions=places).loss
    return made


@dataclass
class _Compared:
    """As DPOTrainer._compute_loss: all logits, and those of the reference beside them."""

    model: Any
    reference: Any
    pair: bool
    low: bool
    compares: bool

    def __call__(self, model: Any, batch: Batch) -> torch.Tensor:
        """Return the loss."""
        rows = Batch(batch.rows * (2 if self.pair else 1), batch.length, padded=batch.padded)
        inputs = rows.inputs
        ids = inputs["input_ids"][..., 1:]
        # What comes out of autocast is turned to 32 bits, both lying there for a moment.
        logits = _told(model(**inputs, use_cache=False).logits, low=self.low)
        likely, _ = selective_log_softmax_and_entropy(
            logits[..., :-1, :], ids, entropy_requires_grad=False
        )
        loss = likely.sum()
        if self.compares:
            alone = model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext()
            with torch.no_grad(), alone:
                other = self.reference if self.reference is not None else model
                asked = _told(other(**inputs, use_cache=False).logits, low=self.low)
                compared = selective_log_softmax(asked[..., :-1, :], ids).sum()
            loss = loss - compared
        return loss


@dataclass
class _Rewarded:
    """As RLOOTrainer._compute_loss: the logits of the answers alone."""

    batch: Batch
    low: bool

    def __call__(self, model: Any, batch: Batch) -> torch.Tensor:
        """Return the loss."""
        inputs = batch.inputs
        logits = _told(model(**inputs, use_cache=False).logits, low=self.low)[:, :-1]
        likely = selective_log_softmax(logits / 0.9, inputs["input_ids"][:, 1:])
        return likely.sum()


def _told(logits: torch.Tensor, *, low: bool) -> torch.Tensor:
    return logits.float() if low else logits
