"""What a run is to do between its first update and its last, as its record has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Course:
    """What a run is to do: updates between checks and saves, rows of an update and of a check.

    `rows` is None where rows and updates have nothing to do with each other, as in packing.
    """

    eval_every: int | None = None
    save_every: int | None = None
    rows: int | None = None
    eval_batch: int = 1

    @classmethod
    def of(cls, config: Mapping[str, Any], plan: Mapping[str, Any]) -> Course:
        """Return the course of a run from its record."""
        batch = int(config.get("per_device_train_batch_size", 1))
        said = config.get("gradient_accumulation_steps", 4)
        accumulation = int(plan.get("gradient_accumulation_steps") or said)
        every = plan.get("eval_steps")
        saved = plan.get("save_steps") or every
        rows = batch * accumulation
        if config.get("packing") or plan.get("method") in ("rlhf", "kto", "seq2seq"):
            rows = 0
        eval_batch = int(config.get("per_device_eval_batch_size", 1))
        return cls(every, None if saved == -1 else saved, rows or None, eval_batch)
