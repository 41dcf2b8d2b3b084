"""The trainer of a training from nothing: windows of tokens, and bits per byte in evaluations."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import Trainer, TrainerCallback, TrainerState

from modelforge.modeling.pretraining.token_bytes import IGNORED, ByteMeter
from modelforge.train.trainer.checkpointing import CheckpointMixin
from modelforge.train.trainer.oom_recovery import OomRecoveryMixin
from modelforge.train.trainer.private import OrderedEvalMixin, TrainerHost, prepare_inputs


class _WindowLossMixin(TrainerHost):
    """Computes the loss of windows; all their tokens are trained.

    A batch has `input_ids` and `shift_labels`, both (batch, context) int64. `meter` measures bits
    per byte in evaluations; None leaves them out.
    """

    meter: ByteMeter | None = None

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_kwargs: Any
    ) -> Any:
        """Return the mean loss of the tokens of a batch."""
        targets = inputs["shift_labels"]
        output = model(
            input_ids=inputs["input_ids"], labels=targets, shift_labels=targets, use_cache=False
        )
        return (output.loss, output) if return_outputs else output.loss

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], *_args: Any, **_kwargs: Any
    ) -> tuple[Any, Any, Any]:
        """Return the mean loss of a batch, and losses and labels without special tokens.

        Losses are (batch,) float32, the nats of each row; labels (batch, context) int64.
        """
        batch = prepare_inputs(self, inputs)
        targets = batch["shift_labels"]
        with torch.no_grad(), self.compute_loss_context_manager():
            logits = model(input_ids=batch["input_ids"], use_cache=False).logits
            losses = cross_entropy(
                logits.float().flatten(0, 1), targets.flatten(), reduction="none"
            ).view_as(targets)
        if self.meter is None:
            return losses.mean(), None, None
        labels = self.meter.without_special(targets)
        return losses.mean(), losses.masked_fill(labels == IGNORED, 0.0).sum(1), labels


class PretrainingTrainer(
    OomRecoveryMixin, CheckpointMixin, OrderedEvalMixin, _WindowLossMixin, Trainer
):
    """Transformers' Trainer on windows of tokens, which measures bits per byte in evaluations."""

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Evaluate a batch, and add it to the bits per byte."""
        loss, nats, labels = super().prediction_step(model, inputs, *args, **kwargs)
        if self.meter is not None:
            count = int((labels != IGNORED).sum())
            self.meter.add(float(nats.sum()) / max(1, count), labels)
        return loss, None, None

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate all windows and add the bits per byte."""
        if self.meter is None:
            return super().evaluation_loop(*args, **kwargs)
        self.meter.reset()
        output = super().evaluation_loop(*args, **kwargs)
        metrics = self.meter.metrics.items()
        output.metrics.update({f"eval_{name}": value for name, value in metrics})
        return output


class PassCounter(TrainerCallback):
    """Counts passes over the text as epochs: the dataset of the trainer has those of all passes."""

    def __init__(self, steps_per_pass: float) -> None:
        self._steps = steps_per_pass

    def on_step_end(self, _args: Any, state: TrainerState, *_rest: Any, **_kwargs: Any) -> None:
        """Set the epoch of a step."""
        state.epoch = state.global_step / self._steps
