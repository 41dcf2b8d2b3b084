"""Recovery from out-of-memory errors: split the batch into microbatches and repeat the step.

The rows of a step, their order and their weight stay the same, so the result is the same up to
rounding. For trainers whose loss is a sum or a mean over rows or tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from accelerate.utils.memory import clear_device_cache
from transformers.trainer_pt_utils import nested_concat

from modelforge.diagnosis.classify import match_text
from modelforge.modeling.recomputation import recompute_every_layer, skips_layers
from modelforge.runs.event_types import AdjustedEvent
from modelforge.train.trainer.microbatch import (
    Microbatch,
    merge_metrics,
    metric_lengths,
    split_batch,
    truncate_metrics,
)
from modelforge.train.trainer.offload import forget_offloaded
from modelforge.train.trainer.private import TrainerHost
from modelforge.train.trainer.state import TrainerSnapshot

Report = Callable[[AdjustedEvent], None]
# No batch has more rows or documents to split.
MAX_SPLITS = 2**16
INDIVISIBLE = (
    "This loss compares the rows of a batch, so the batch cannot be split to save memory without "
    "changing the result."
)
EXHAUSTED = (
    "A single row does not fit in memory, even with gradient checkpointing. Use a smaller model, "
    "a shorter max sequence length or fewer bits per weight."
)
RESUMED = "As before the run was interrupted."
CHECKPOINTING = {"use_reentrant": False}


@dataclass
class BatchSplits:
    """In how many microbatches a batch is processed by now; saved in checkpoints.

    `report` receives every change, and the restored values when a run is resumed.
    """

    report: Report
    train: int = 1
    eval: int = 1
    recompute: bool = False
    is_restored: bool = False

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"train": self.train, "check": self.eval, "recomputes": self.recompute}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue with the microbatches of a checkpoint."""
        self.train, self.eval = int(state["train"]), int(state["check"])
        self.recompute = bool(state["recomputes"])
        self.is_restored = (self.train, self.eval, self.recompute) != (1, 1, False)


class OomRecoveryMixin(TrainerHost):
    """Mixed into a trainer before `CheckpointMixin`; inactive until `enable_oom_recovery`.

    Attributes:
        sides: 2 where the first half of a batch's rows is compared with the second.
        by_tokens: Whether the loss of a batch is a mean over its trained tokens, not its rows.
        shifts_labels: Whether the first token of a row is never trained, as in a causal model.
        is_indivisible: Whether the loss is neither, so that no batch may be split.
        recomputes: Whether every layer is recomputed.
    """

    sides = 1
    by_tokens = False
    shifts_labels = True
    is_indivisible = is_exhausted = recomputes = False
    batch_splits: BatchSplits | None = None
    microbatch = Microbatch({})
    _step_batches: list[dict[str, Any]]
    _before_step: TrainerSnapshot | None = None
    _loss_share = 1.0

    # Training

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch the batches of a step."""
        self._step_batches = []
        return super().get_batch_samples(*args, **kwargs)

    def training_step(self, model: Any, inputs: dict[str, Any], items: Any = None) -> Any:
        """Train on one batch; when memory runs out, repeat all batches of this step."""
        splits = self.batch_splits
        if splits is None:
            return super().training_step(model, inputs, items)
        self._recompute_if_needed(splits)
        if splits.is_restored:
            splits.is_restored = False
            self._report(splits, RESUMED)
        if not self._step_batches:
            self._before_step = TrainerSnapshot.of(self, None)
        self._step_batches.append(dict(inputs))
        pending = self._step_batches[-1:]
        while True:
            try:
                return sum(self._train_on(model, batch, items, splits) for batch in pending)
            except (RuntimeError, MemoryError) as error:
                why = out_of_memory(error)
                if why is None or not self._reduce_memory(inputs, splits):
                    raise
            # Only here the traceback is gone, which holds all tensors of the step.
            self._reset_step(model, splits)
            self._report(splits, why)
            pending = self._step_batches

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a microbatch times its share of the batch."""
        loss = super().compute_loss(*args, **kwargs)
        if self._loss_share == 1.0:
            return loss
        if isinstance(loss, tuple):
            return (loss[0] * self._loss_share, *loss[1:])
        return loss * self._loss_share

    def _train_on(
        self, model: Any, batch: Mapping[str, Any], items: Any, splits: BatchSplits
    ) -> Any:
        parts = self._split(batch, splits.train, self.args.per_device_train_batch_size)
        lengths = metric_lengths(self, "train")
        # A loss that is divided by all tokens of the step needs no weight.
        is_sum = items is not None and self.model_accepts_loss_kwargs
        total: Any = 0.0
        try:
            for self.microbatch in parts:
                self._loss_share = 1.0 if is_sum else self._weight(self.microbatch)
                total = total + super().training_step(model, self.microbatch.inputs, items)
        finally:
            self.microbatch, self._loss_share = Microbatch({}), 1.0
        merge_metrics(self, "train", lengths, parts, by_tokens=self.by_tokens)
        return total

    def _reduce_memory(self, batch: Mapping[str, Any], splits: BatchSplits) -> bool:
        """Choose smaller microbatches, else gradient checkpointing; return whether one was left.

        `batch` is the one that did not fit.
        """
        size = self.args.per_device_train_batch_size
        more = self._more_splits(batch, splits.train, size)
        if more is not None:
            splits.train = more
            return True
        if self.recomputes or not getattr(self.model, "supports_gradient_checkpointing", False):
            self.is_exhausted = True
            return False
        splits.recompute = True
        return True

    def _more_splits(self, batch: Mapping[str, Any], splits: int, size: int) -> int | None:
        now = len(self._split(batch, splits, size))
        while splits < MAX_SPLITS:
            splits *= 2
            if len(self._split(batch, splits, size)) > now:
                return splits
        return None

    def _split(self, batch: Mapping[str, Any], splits: int, size: int) -> list[Microbatch]:
        return split_batch(batch, size, splits, sides=self.sides, shifts=self.shifts_labels)

    def _weight(self, part: Microbatch) -> float:
        return part.token_share if self.by_tokens else part.row_share

    def _recompute_if_needed(self, splits: BatchSplits) -> None:
        if splits.recompute and not self.recomputes:
            recompute_every_layer(self.model, CHECKPOINTING)
            self.recomputes = True

    def _reset_step(self, model: Any, splits: BatchSplits) -> None:
        """Discard everything this step has computed."""
        assert self._before_step is not None, "a step has begun"
        model.zero_grad(set_to_none=True)
        # The tokens of a batch are counted after its training step, so they stay.
        tokens = self.state.num_input_tokens_seen
        self._before_step.restore(self)
        self.state.num_input_tokens_seen = tokens
        forget_offloaded(self)
        clear_device_cache(garbage_collection=True)
        self._recompute_if_needed(splits)

    def _report(self, splits: BatchSplits, why: str) -> None:
        args = self.args
        event = AdjustedEvent(
            step=self.state.global_step + 1,
            micro_batch=-(-args.per_device_train_batch_size // splits.train),
            accumulation=args.gradient_accumulation_steps * splits.train,
            gradient_checkpointing=self.recomputes or bool(args.gradient_checkpointing),
            check_batch=-(-args.per_device_eval_batch_size // splits.eval),
            why=why,
        )
        splits.report(event)

    # Evaluation

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Evaluate one batch, in microbatches where it does not fit."""
        splits = self.batch_splits
        if splits is None:
            return super().prediction_step(model, inputs, *args, **kwargs)
        lengths, size = metric_lengths(self, "eval"), self.args.per_device_eval_batch_size
        while True:
            parts = self._split(inputs, splits.eval, size)
            try:
                outputs = self._evaluate_parts(model, parts, args, kwargs)
                break
            except (RuntimeError, MemoryError) as error:
                why = out_of_memory(error)
                more = self._more_splits(inputs, splits.eval, size)
                if why is None or more is None:
                    raise
            splits.eval = more
            truncate_metrics(self, "eval", lengths)
            clear_device_cache(garbage_collection=True)
            self._report(splits, why)
        if len(outputs) == 1:
            return outputs[0]
        merge_metrics(self, "eval", lengths, parts, by_tokens=self.by_tokens)
        return self._joined(outputs, parts)

    def _evaluate_parts(
        self, model: Any, parts: list[Microbatch], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[tuple[Any, Any, Any]]:
        outputs = []
        try:
            for self.microbatch in parts:
                inputs = self.microbatch.inputs
                outputs.append(super().prediction_step(model, inputs, *args, **kwargs))
        finally:
            self.microbatch = Microbatch({})
        return outputs

    def _joined(self, outputs: list[tuple[Any, Any, Any]], parts: list[Microbatch]) -> Any:
        """Return loss, logits and labels of a batch from those of its microbatches."""
        weighted = zip((output[0] for output in outputs), map(self._weight, parts), strict=True)
        # A microbatch without a trained token has no loss, and weight 0.
        loss = sum(loss * weight for loss, weight in weighted if weight)
        return loss, _concat([out[1] for out in outputs]), _concat([out[2] for out in outputs])


def enable_oom_recovery(trainer: Any, report: Report) -> dict[str, BatchSplits]:
    """Let a trainer recover from out-of-memory errors if its batches can be split.

    Return the objects that checkpoints save, by name.
    """
    if not isinstance(trainer, OomRecoveryMixin) or trainer.is_indivisible:
        return {}
    trainer.recomputes = bool(trainer.args.gradient_checkpointing) and not skips_layers(
        trainer.model
    )
    trainer.batch_splits = BatchSplits(report)
    return {"portions": trainer.batch_splits}


def oom_note(trainer: Any, error: BaseException) -> tuple[str, str] | None:
    """Return why a training could not recover, as code and text; None for other errors.

    A trainer whose batches cannot be split has no `batch_splits`.
    """
    if out_of_memory(error) is None:
        return None
    if getattr(trainer, "batch_splits", None) is None:
        return "not-divided", INDIVISIBLE
    return ("exhausted", EXHAUSTED) if trainer.is_exhausted else None


def out_of_memory(error: BaseException) -> str | None:
    """Return a sentence on what ran out of memory; None for every other error."""
    entry = match_text(f"{type(error).__name__}: {error}")
    return entry.what if entry is not None and entry.code == "out-of-memory" else None


def _concat(values: list[Any]) -> Any:
    return None if values[0] is None else reduce(nested_concat, values)
