"""Losses of single rows, read from the loss of a training step without a further forward pass.

Rows are identified by a column of the dataset: in a batch every token has the number of its row, so
that rows stay apart in padded, padding-free and packed batches and in their microbatches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from transformers import TrainerCallback, TrainerState

from modelforge.modeling.tokenize.dataset import ROW
from modelforge.modeling.tokenize.encode import IGNORE_INDEX
from modelforge.runs.row_losses import RowLossSums, read_sums
from modelforge.train.trainer.chunked_loss import record_chunk_losses
from modelforge.train.trainer.private import ExtraColumnMixin

# The number of the row of each token, in a packed dataset and in a batch.
ROW_IDS = "row_ids"
# The trainer's epoch is a fraction that may be a little below a whole number.
_ROUNDING = 1e-6


@dataclass
class RowLossRecorder:
    """Adds up the losses of rows.

    Attributes:
        path: File in the run folder.
        sums: The sums so far.
        mismatches: Batches whose losses could not be assigned to rows.
    """

    path: Path
    sums: RowLossSums
    mismatches: int = 0
    _chunks: list[torch.Tensor] = field(default_factory=list)

    def add_chunk(self, losses: torch.Tensor) -> None:
        """Add the losses of trained tokens, a float tensor of shape (tokens,)."""
        self._chunks.append(losses)

    def finish_batch(self, rows: torch.Tensor, labels: torch.Tensor, epoch: int) -> None:
        """Assign the losses of a batch to rows.

        `rows` and `labels` are (batch, seq) int64: the row and the label of each token, -100 where
        it is not trained. The losses are those of the trained tokens in this order.
        """
        chunks, self._chunks = self._chunks, []
        is_trained = labels[:, 1:] != IGNORE_INDEX
        numbers = rows[:, 1:][is_trained].cpu().numpy()
        losses = torch.cat(chunks).float().cpu().numpy() if chunks else np.zeros(0)
        if len(numbers) != len(losses):
            self.mismatches += 1
            return
        is_finite = np.isfinite(losses)
        self.sums.add(numbers[is_finite], losses[is_finite].astype(float), epoch)

    def write(self) -> None:
        """Write the sums; raises RunError as `RowLossSums.write` does."""
        self.sums.write(self.path)


class RowLossMixin(ExtraColumnMixin):
    """Mixed into a TRL trainer whose loss is computed in chunks, before all other bases."""

    row_losses: RowLossRecorder | None = None
    extra_columns: tuple[str, ...] = (ROW, ROW_IDS)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch, and record the losses of its rows in training."""
        rows, recorder = inputs.pop(ROW_IDS, None), self.row_losses
        if recorder is None or rows is None or not model.training:
            return super().compute_loss(model, inputs, *args, **kwargs)
        labels = inputs["labels"]
        with record_chunk_losses(recorder.add_chunk):
            loss = super().compute_loss(model, inputs, *args, **kwargs)
        recorder.finish_batch(rows, labels, int((self.state.epoch or 0.0) + _ROUNDING))
        return loss


class RowLossCallback(TrainerCallback):
    """Writes the losses of rows with every checkpoint and at the end of the training."""

    def __init__(self, recorder: RowLossRecorder) -> None:
        self._recorder = recorder

    def on_save(self, *_args: Any, **_kwargs: Any) -> None:
        """Write what belongs to a checkpoint."""
        self._recorder.write()

    def on_train_end(self, _args: Any, _state: TrainerState, *_rest: Any, **_kwargs: Any) -> None:
        """Write the result."""
        self._recorder.write()


@dataclass(frozen=True)
class RowCollator:
    """Collates a batch with another collator, and adds the number of the row of each token."""

    collate: Any

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the batch with `row_ids`, int64 of the shape of `labels`."""
        plain = [
            {name: value for name, value in example.items() if name not in (ROW, ROW_IDS)}
            for example in examples
        ]
        batch: dict[str, Any] = self.collate(plain)
        if ROW not in examples[0] and ROW_IDS not in examples[0]:
            return batch
        numbers = [_row_ids(example) for example in examples]
        shape = batch["labels"].shape
        if shape[0] == 1:
            numbers = [torch.cat(numbers)]
        ids = pad_sequence(numbers, batch_first=True)
        missing = shape[1] - ids.shape[1]
        batch[ROW_IDS] = torch.nn.functional.pad(ids, (0, missing)) if missing else ids
        return batch


def with_row_ids(rows: Dataset) -> Dataset:
    """Return tokenized rows with the number of the row for each token, which packing keeps."""
    table = rows.with_format("arrow")[:]
    ids = table["input_ids"].combine_chunks()
    ids = ids.chunk(0) if isinstance(ids, pa.ChunkedArray) else ids
    lengths = pc.list_value_length(ids).to_numpy(zero_copy_only=False)
    numbers = np.repeat(table[ROW].to_numpy(), lengths).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    column = pa.ListArray.from_arrays(pa.array(offsets), pa.array(numbers))
    names = [name for name in table.column_names if name != ROW]
    return Dataset(table.select(names).append_column(ROW_IDS, column))


def attach(trainer: Any, path: Path, *, resumes: bool) -> None:
    """Let a trainer keep the losses of its rows in a file; a resumed run continues with it."""
    sums = read_sums(path) if resumes else None
    count = _count(trainer.train_dataset)
    if sums is None or len(sums.values["tokens"]) != count:
        sums = RowLossSums(count)
    trainer.row_losses = RowLossRecorder(path, sums)
    trainer.add_callback(RowLossCallback(trainer.row_losses))


def _row_ids(example: dict[str, Any]) -> torch.Tensor:
    if ROW_IDS in example:
        return torch.tensor(example[ROW_IDS], dtype=torch.int64)
    return torch.full((len(example["input_ids"]),), example[ROW], dtype=torch.int64)


def _count(rows: Dataset) -> int:
    """Return the number of rows of the run up to the last one that is trained."""
    column = rows.with_format("arrow")[:][ROW if ROW in rows.column_names else ROW_IDS]
    if pa.types.is_list(column.type):
        column = pc.list_flatten(column)
    return int(pc.max(column).as_py() or 0) + 1
