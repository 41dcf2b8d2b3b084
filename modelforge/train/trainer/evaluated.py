"""The losses of the batches of evaluations, kept so that two trainings can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
from datasets import Dataset

from modelforge.runs.layout import RunFolder
from modelforge.runs.progress.evaluation_losses import (
    Batch,
    EvaluationLosses,
    as_batches,
    mean,
    read_evaluation_losses,
    write_evaluation_losses,
)
from modelforge.train.job import Job


@dataclass
class EvaluatedBatches:
    """The losses of the batches before training, and of the weights that are kept.

    A checkpoint saves them; the run folder has them too, those before training for later stages.

    Attributes:
        run: The folder of the run.
        rows: SHA-256 of the evaluation rows.
        keeps_best: Whether the weights with the lowest evaluation loss are kept, not the last.
    """

    run: RunFolder
    rows: str = ""
    keeps_best: bool = True
    before: list[Batch] = field(default_factory=list)
    best: list[Batch] = field(default_factory=list)

    @classmethod
    def of(cls, job: Job, rows: Dataset | None) -> EvaluatedBatches | None:
        """Return those of a training, or of a stage, that begins; None without evaluation."""
        if rows is None or job.is_trial_run:
            return None
        keeps_best = job.config.evaluation.keep_best
        return cls(job.run, digest(rows), keeps_best, read_evaluation_losses(job.run).before)

    def add(self, step: int, batches: Sequence[Batch]) -> None:
        """Keep an evaluation if it is the first of the run, or of the weights that are kept."""
        if step == 0:
            if self.before:
                return
            self.before = list(batches)
        elif not self.keeps_best or not self.best or mean(batches) < mean(self.best):
            self.best = list(batches)
        else:
            return
        write_evaluation_losses(self.run, EvaluationLosses(self.rows, self.before, self.best))

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"before": self.before, "best": self.best}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.before, self.best = as_batches(state["before"]), as_batches(state["best"])


def digest(rows: Dataset) -> str:
    """Return the SHA-256 of tokenized rows: their tokens and what of them is trained."""
    found = sha256()
    names = [name for name in ("input_ids", "labels", "completion_mask") if name in rows.features]
    for batch in rows.with_format("numpy", columns=names).iter(batch_size=256):
        for name in names:
            for values in batch[name]:
                found.update(np.asarray(values, dtype=np.int64).tobytes())
    return found.hexdigest()
