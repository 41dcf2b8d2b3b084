"""One training step of each method on the meta device, up to the loss.

Shapes, order and the tensors that are live at the same time are those of TRL 1.14; operations that
only change values are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from trl.trainer.utils import selective_log_softmax, selective_log_softmax_and_entropy

from modelforge.config.methods import MethodFacts
from modelforge.config.plan.make import Plan
from modelforge.config.plan.weights import POSITION_PACKING
from modelforge.config.schema.config import TrainingConfig
from modelforge.train.trainer.chunked_loss import chunk_lm_head_loss


@dataclass(frozen=True)
class BatchShape:
    """A batch of `rows` sequences of `length` tokens.

    A padding-free batch has shape (1, rows * length); `padded` says that some rows are shorter.
    """

    rows: int
    length: int
    padding_free: bool = False
    padded: bool = False

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """The model inputs: int64 tensors of shape (rows, length) on the meta device."""
        if self.padding_free:
            shape = 1, self.rows * self.length
            return {"input_ids": token_ids(*shape), "position_ids": token_ids(*shape)}
        shape = self.rows, self.length
        return {"input_ids": token_ids(*shape), "attention_mask": token_ids(*shape)}


# Returns the loss of a batch: a scalar tensor.
Step = Callable[[Any, BatchShape], torch.Tensor]


def largest_batches(
    config: TrainingConfig, plan: Plan, length: int
) -> tuple[BatchShape, BatchShape]:
    """Return the largest training batch and the largest evaluation batch."""
    facts = plan.facts
    eval_rows = config.per_device_eval_batch_size
    rows = max(facts.min_rows, config.rows_per_pass)
    padding_free = facts.joins_rows and config.data.padding_free
    packs = facts.joins_rows and config.packing
    evaluation = BatchShape(eval_rows, length, padding_free, eval_rows > 1)
    if facts.generates:
        total = length + plan.max_completion_length
        return BatchShape(rows, total, padded=rows > 1), evaluation
    training = BatchShape(
        rows,
        plan.max_length if packs else length,
        padding_free or (packs and config.data.packing_strategy in POSITION_PACKING),
        rows > 1 and not packs,
    )
    return training, evaluation


def prepare_step(model: Any, plan: Plan, reference: Any, *, low: bool) -> Step:
    """Prepare the model for the plan's method and return its step.

    `low` says that the model runs under autocast in 16 bits, whose logits TRL casts to 32.
    """
    facts = plan.facts
    if facts.chunks_loss:
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        chunk_lm_head_loss(base, plan.loss_piece)
        return _sft_step
    if facts.generates:
        return partial(_online_step, low=low)
    if facts.compares:
        return partial(_preference_step, facts=facts, reference=reference, low=low)
    return _qa_step if facts.head == "span" else _seq2seq_step


def token_ids(*shape: int) -> torch.Tensor:
    """Return int64 token ids of this shape on the meta device."""
    return torch.zeros(shape, dtype=torch.int64, device="meta")


def _sft_step(model: Any, batch: BatchShape) -> torch.Tensor:
    inputs = batch.inputs
    return model(**inputs, labels=inputs["input_ids"].clone()).loss


def _seq2seq_step(model: Any, batch: BatchShape) -> torch.Tensor:
    labels = token_ids(batch.rows, batch.length)
    return model(**batch.inputs, labels=labels).loss


def _qa_step(model: Any, batch: BatchShape) -> torch.Tensor:
    positions = token_ids(batch.rows)
    output = model(**batch.inputs, start_positions=positions, end_positions=positions)
    return output.loss


def _preference_step(
    model: Any, batch: BatchShape, *, facts: MethodFacts, reference: Any, low: bool
) -> torch.Tensor:
    """DPOTrainer._compute_loss: the logits of all tokens, and of the reference beside them."""
    inputs = BatchShape(batch.rows * facts.sides, batch.length, padded=batch.padded).inputs
    ids = inputs["input_ids"][..., 1:]
    # The 16-bit logits and their 32-bit cast are live at the same time.
    logits = _as_float(model(**inputs, use_cache=False).logits, low=low)
    log_probs, _ = selective_log_softmax_and_entropy(
        logits[..., :-1, :], ids, entropy_requires_grad=False
    )
    loss = log_probs.sum()
    if facts.needs_reference:
        base = model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext()
        with torch.no_grad(), base:
            other = reference if reference is not None else model
            ref_logits = _as_float(other(**inputs, use_cache=False).logits, low=low)
            ref_log_probs = selective_log_softmax(ref_logits[..., :-1, :], ids).sum()
        loss = loss - ref_log_probs
    return loss


def _online_step(model: Any, batch: BatchShape, *, low: bool) -> torch.Tensor:
    """RLOOTrainer._compute_loss: the log-probabilities of the completions."""
    inputs = batch.inputs
    logits = _as_float(model(**inputs, use_cache=False).logits, low=low)[:, :-1]
    return selective_log_softmax(logits / 0.9, inputs["input_ids"][:, 1:]).sum()


def _as_float(logits: torch.Tensor, *, low: bool) -> torch.Tensor:
    return logits.float() if low else logits
