"""Going on when memory runs out: batches are taken in smaller pieces, and the update done again.

The rows of an update, their order and their weight stay as they are, so what is learned is the
same up to rounding. Mixed into trainers whose loss is a sum or a mean over rows or tokens.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers.trainer_pt_utils import nested_concat

from modelforge.diagnosis.classify import recognise
from modelforge.runs.event_types import AdjustedEvent
from modelforge.train.trainer.microbatch import Piece, cut, divide, marks_of, merge
from modelforge.train.trainer.state import TrainerSnapshot

# Beyond this no batch has rows or documents left to part.
MOST_TIMES = 2**16
UNDIVIDED = (
    "The rows of a batch are held against each other here, so a batch that does not fit cannot be "
    "taken in smaller pieces: that would be another training."
)
EXHAUSTED = (
    "One row alone does not fit, with activations computed again: a smaller model, a shorter "
    "longest row or fewer bits for its weights are what is left."
)
AS_BEFORE = "As before the run was interrupted."
CHECKPOINTING = {"use_reentrant": False}


@dataclass
class BatchSplits:
    """How small the pieces are by now: in how many turns a batch is taken. A part of a checkpoint.

    `tell` hears every change, and once more what a run goes on with after it was interrupted.
    """

    tell: Callable[..., None]
    train: int = 1
    check: int = 1
    recomputes: bool = False
    is_news: bool = False

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"train": self.train, "check": self.check, "recomputes": self.recomputes}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on in pieces as small as before."""
        self.train, self.check = int(state["train"]), int(state["check"])
        self.recomputes = bool(state["recomputes"])
        self.is_news = (self.train, self.check, self.recomputes) != (1, 1, False)


class OomRecoveryMixin:
    """Mixed into a trainer before `Checkpointing`; does nothing until `live_with` was called.

    `sides` is 2 where the first half of a batch's rows is compared with the second. `by_tokens`
    says that the loss of a batch is a mean over its learned tokens, not over its rows, and
    `is_whole` that it is neither, so that no batch may be divided.
    """

    sides = 1
    by_tokens = False
    shifts_labels = True
    is_whole = is_exhausted = False
    batch_splits: BatchSplits | None = None
    piece = Piece({})
    _window: list[dict[str, Any]]
    _before: TrainerSnapshot | None = None
    _share = 1.0
    _recomputing = False

    def enable_oom_recovery(self, tell: Callable[..., None]) -> BatchSplits:
        """Go on from now on when memory runs out; return what a checkpoint keeps of it."""
        trainer: Any = self
        self._window = []
        self._recomputing = bool(trainer.args.gradient_checkpointing)
        self.batch_splits = BatchSplits(tell)
        return self.batch_splits

    # Training

    def get_batch_samples(self, *args: Any, **more: Any) -> Any:
        """Fetch the batches of an update, before the first of which nothing is done yet."""
        self._window = []
        return super().get_batch_samples(*args, **more)  # type: ignore[misc]

    def training_step(self, model: Any, inputs: dict[str, Any], items: Any = None) -> Any:
        """Learn from one batch, or from all of this update anew where memory has run out."""
        if self.batch_splits is None:
            return super().training_step(model, inputs, items)  # type: ignore[misc]
        self._recompute_if_asked()
        if self.batch_splits.is_news:
            self.batch_splits.is_news = False
            self._tell(AS_BEFORE)
        if not self._window:
            self._before = TrainerSnapshot.of(self, None)
        self._window.append(dict(inputs))
        fresh = self._window[-1:]
        while True:
            try:
                return sum(self._learn(model, batch, items) for batch in fresh)
            except (RuntimeError, MemoryError) as error:
                why = out_of_memory(error)
                if why is None or not self._give_way(inputs):
                    raise
            # Only here is the traceback gone, which held all that the update had computed.
            self._begin_again(model)
            self._tell(why)
            fresh = self._window

    def compute_loss(self, *args: Any, **more: Any) -> Any:
        """Return the loss of a piece by its share of its batch."""
        found = super().compute_loss(*args, **more)  # type: ignore[misc]
        if self._share == 1.0:
            return found
        if isinstance(found, tuple):
            return (found[0] * self._share, *found[1:])
        return found * self._share

    def _learn(self, model: Any, batch: Mapping[str, Any], items: Any) -> Any:
        trainer: Any = self
        assert self.batch_splits is not None, "only asked once it is there"
        pieces = self._pieces(
            batch, self.batch_splits.train, trainer.args.per_device_train_batch_size
        )
        marks = marks_of(trainer, "train")
        # A loss that is divided by all tokens of the update adds up by itself.
        adds_up = items is not None and trainer.model_accepts_loss_kwargs
        total: Any = 0.0
        try:
            for self.piece in pieces:
                self._share = 1.0 if adds_up else self._weight(self.piece)
                total = total + super().training_step(  # type: ignore[misc]
                    model, self.piece.inputs, items
                )
        finally:
            self.piece, self._share = Piece({}), 1.0
        merge(trainer, "train", marks, pieces, by_tokens=self.by_tokens)
        return total

    def _give_way(self, batch: Mapping[str, Any]) -> bool:
        """Choose smaller pieces, or compute again what is not kept; say whether anything is left.

        `batch` is the one that did not fit.
        """
        assert self.batch_splits is not None, "only asked once it is there"
        trainer: Any = self
        most = trainer.args.per_device_train_batch_size
        times = self._more_times(batch, self.batch_splits.train, most)
        if times is not None:
            self.batch_splits.train = times
            return True
        able = getattr(trainer.model, "supports_gradient_checkpointing", False)
        if self._recomputing or not able:
            self.is_exhausted = True
            return False
        self.batch_splits.recomputes = True
        return True

    def _more_times(self, batch: Mapping[str, Any], times: int, most: int) -> int | None:
        now = len(self._pieces(batch, times, most))
        while times < MOST_TIMES:
            times *= 2
            if len(self._pieces(batch, times, most)) > now:
                return times
        return None

    def _pieces(self, batch: Mapping[str, Any], times: int, most: int) -> list[Piece]:
        return divide(batch, most, times, sides=self.sides, shifts=self.shifts_labels)

    def _weight(self, piece: Piece) -> float:
        return piece.tokens if self.by_tokens else piece.rows

    def _recompute_if_asked(self) -> None:
        assert self.batch_splits is not None, "only asked once it is there"
        if self.batch_splits.recomputes and not self._recomputing:
            trainer: Any = self
            trainer.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=CHECKPOINTING)
            self._recomputing = True

    def _begin_again(self, model: Any) -> None:
        """Let go of all that this update has computed, as if it had not begun."""
        trainer: Any = self
        assert self._before is not None, "an update has begun"
        model.zero_grad(set_to_none=True)
        # The tokens of a batch are counted once its step is over, so those stay.
        tokens = trainer.state.num_input_tokens_seen
        self._before.restore(trainer)
        trainer._tr_loss = self._before.loss.clone()
        trainer.state.num_input_tokens_seen = tokens
        _free()
        self._recompute_if_asked()

    def _tell(self, why: str) -> None:
        trainer: Any = self
        assert self.batch_splits is not None, "only asked once it is there"
        batch, times = trainer.args.per_device_train_batch_size, self.batch_splits.train
        self.batch_splits.tell(
            AdjustedEvent(
                step=trainer.state.global_step + 1,
                micro_batch=-(-batch // times),
                accumulation=trainer.args.gradient_accumulation_steps * times,
                gradient_checkpointing=self._recomputing,
                check_batch=-(-trainer.args.per_device_eval_batch_size // self.batch_splits.check),
                why=why,
            )
        )

    # Checking

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **more: Any) -> Any:
        """Check one batch, in pieces where it does not fit."""
        if self.batch_splits is None:
            return super().prediction_step(model, inputs, *args, **more)  # type: ignore[misc]
        trainer: Any = self
        marks, most = marks_of(self, "eval"), trainer.args.per_device_eval_batch_size
        while True:
            try:
                return self._check(model, inputs, args, more)
            except (RuntimeError, MemoryError) as error:
                why = out_of_memory(error)
                times = self._more_times(inputs, self.batch_splits.check, most)
                if why is None or times is None:
                    raise
            self.batch_splits.check = times
            cut(self, "eval", marks)
            _free()
            self._tell(why)

    def _check(self, model: Any, batch: Mapping[str, Any], args: Any, more: Any) -> Any:
        assert self.batch_splits is not None, "only asked once it is there"
        trainer: Any = self
        most = trainer.args.per_device_eval_batch_size
        pieces, marks = self._pieces(batch, self.batch_splits.check, most), marks_of(self, "eval")
        found = []
        try:
            for self.piece in pieces:
                inputs = self.piece.inputs
                found.append(
                    super().prediction_step(model, inputs, *args, **more)  # type: ignore[misc]
                )
        finally:
            self.piece = Piece({})
        if len(found) == 1:
            return found[0]
        weights = [self._weight(piece) for piece in pieces]
        merge(self, "eval", marks, pieces, by_tokens=self.by_tokens)
        losses = [one[0] for one in found]
        # A piece without a learned token has no loss, and no weight.
        parts = [part * weight for part, weight in zip(losses, weights, strict=True) if weight]
        return (sum(parts), *(_together([one[at] for one in found]) for at in (1, 2)))


def make_memory_safe(trainer: Any, tell: Callable[..., None]) -> dict[str, BatchSplits]:
    """Have a trainer go on when memory runs out, if its batches can be divided.

    Return what belongs to a checkpoint.
    """
    if not isinstance(trainer, OomRecoveryMixin) or trainer.is_whole:
        return {}
    return {"portions": trainer.enable_oom_recovery(tell)}


def oom_note(trainer: Any, error: BaseException) -> tuple[str, str] | None:
    """Return why a training does not go on with less memory: a code and a sentence; None if else.

    A training that is not divided was begun without `live_with`.
    """
    if out_of_memory(error) is None:
        return None
    if getattr(trainer, "batch_splits", None) is None:
        return "not-divided", UNDIVIDED
    return ("exhausted", EXHAUSTED) if trainer.is_exhausted else None


def out_of_memory(error: BaseException) -> str | None:
    """Return what ran out of memory, in words; None for every other failure."""
    entry = recognise(f"{type(error).__name__}: {error}")
    return entry.what if entry is not None and entry.code == "out-of-memory" else None


def _free() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _together(values: list[Any]) -> Any:
    whole = values[0]
    for value in values[1:]:
        whole = None if whole is None else nested_concat(whole, value)
    return whole
