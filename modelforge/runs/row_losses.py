"""The losses of the training rows of a run: a file of arrays that the worker keeps."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelforge.paths import read_regular
from modelforge.runs.atomic_files import disk_error
from modelforge.runs.layout import RunFolder
from modelforge.units import MIB

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# About 20 million rows.
MAX_BYTES = 2_048 * MIB
# Sums by row; `first` and `last` are of the epochs in which the row was seen first and last.
SUMS = (
    "loss", "tokens", "gradient", "first_loss", "first_tokens", "last_loss", "last_tokens",
    "first_epoch", "last_epoch",
)  # fmt: skip


@dataclass(frozen=True)
class RowLosses:
    """The rows that were trained, in ascending order; all arrays have one value per row.

    Attributes:
        rows: Index of the row among the rows of the run, from 0: `iterate_rows` yields them in
            this order. Copies of a row, made by a weight of its source, have indices of their own.
        before: Mean loss of its trained tokens in the epoch that saw the row first, in nats.
        after: The same in the epoch that saw it last; NaN if that is the same epoch.
        mean: The same over all epochs.
        tokens: Its trained tokens in the epoch that saw it last.
        share: Its share of the gradient at the outputs of the model; the sum is 1. A token has
            1 - p, where p is the probability of the correct token, which is half of the L1 norm of
            the gradient of its loss with respect to the logits.
    """

    rows: Ints
    before: Floats
    after: Floats
    mean: Floats
    tokens: Ints
    share: Floats


class RowLossSums:
    """The sums from which `RowLosses` are computed, for rows with index 0 to `count` - 1."""

    def __init__(self, count: int) -> None:
        self.values: dict[str, Floats] = {name: np.zeros(count) for name in SUMS}

    def add(self, rows: Ints, losses: Floats, epoch: int) -> None:
        """Add trained tokens: the row of each, and its loss in nats; both of shape (tokens,)."""
        if not len(rows):
            return
        seen, position = np.unique(rows, return_inverse=True)
        loss = np.bincount(position, losses, len(seen))
        tokens = np.bincount(position, minlength=len(seen)).astype(float)
        gradient = np.bincount(position, -np.expm1(-losses), len(seen))
        values = self.values
        is_new = values["tokens"][seen] == 0
        values["first_epoch"][seen[is_new]] = epoch
        later = seen[values["last_epoch"][seen] != epoch]
        values["last_loss"][later] = values["last_tokens"][later] = 0.0
        values["last_epoch"][seen] = epoch
        for name, added in (("loss", loss), ("tokens", tokens), ("gradient", gradient)):
            values[name][seen] += added
        is_first = values["first_epoch"][seen] == epoch
        for name, added in (("loss", loss), ("tokens", tokens)):
            values[f"first_{name}"][seen[is_first]] += added[is_first]
            values[f"last_{name}"][seen] += added

    def losses(self) -> RowLosses:
        """Return the losses of the rows that were seen."""
        rows = np.flatnonzero(self.values["tokens"])
        of = {name: value[rows] for name, value in self.values.items()}
        after = of["last_loss"] / of["last_tokens"]
        after[of["first_epoch"] == of["last_epoch"]] = np.nan
        total = of["gradient"].sum()
        return RowLosses(
            rows=rows,
            before=of["first_loss"] / of["first_tokens"],
            after=after,
            mean=of["loss"] / of["tokens"],
            tokens=of["last_tokens"].astype(np.int64),
            share=of["gradient"] / total if total else of["gradient"],
        )

    def write(self, path: Path) -> None:
        """Write the sums atomically.

        Raises:
            RunError: The disk is full or the folder is not writable.
        """
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {
            name: values.astype(np.float32) for name, values in self.values.items()
        }
        np.savez_compressed(buffer, **arrays)
        draft = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        try:
            with draft.open("wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise disk_error(error, path) from error


def read_sums(path: Path) -> RowLossSums | None:
    """Return the sums in a file, or None when there is none that can be read."""
    try:
        with np.load(io.BytesIO(read_regular(path, MAX_BYTES)), allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name], dtype=float) for name in SUMS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    sizes = {array.shape for array in arrays.values()}
    if len(sizes) != 1 or any(array.ndim != 1 for array in arrays.values()):
        return None
    if not all(np.isfinite(array).all() for array in arrays.values()):
        return None
    sums = RowLossSums(0)
    sums.values = arrays
    return sums


def read_row_losses(run: RunFolder) -> RowLosses | None:
    """Return the losses of the rows of a run, or None where they were not kept."""
    sums = read_sums(run.row_losses)
    if sums is None or not (sums.values["tokens"] > 0).any():
        return None
    return sums.losses()
