"""The record of a run as the worker reads it, and what a strategy needs to do the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.runs.atomic_files import read_json
from modelforge.runs.checkpoints import Checkpoint
from modelforge.runs.layout import RunFolder
from modelforge.train.event_log import EventLog
from modelforge.train.stop import Stop


@dataclass(frozen=True)
class Job:
    """The contents of a run's config.json.

    A trial run is a run that only measures memory and time.
    """

    run: RunFolder
    name: str
    config: TrainingConfig
    plan: Plan
    dataset: dict[str, Any]
    is_trial_run: bool = False

    @classmethod
    def read(cls, run: RunFolder) -> Job:
        """Read the record of a run; nothing is resolved again."""
        record = read_json(run.config)
        return cls(
            run=run,
            name=record["name"],
            config=TrainingConfig.from_record(record["config"]),
            plan=Plan.from_dict(record["plan"], record["config"]),
            dataset=record["dataset"],
            is_trial_run=record.get("trial_run", record.get("rehearsal")) is True,
        )


@dataclass(frozen=True)
class WorkerContext:
    """A job, and what a strategy needs to do it.

    Attributes:
        load: `load(head, path)` returns model and tokenizer for a head; without a path, of the run.
            With `is_plain` the model is not quantized, and on the CPU.
        checkpoint: The checkpoint to resume from.
        load_seconds: How long each call of `load` took.
        is_main: Whether this process writes the files of the run; of several, the first one.
    """

    job: Job
    load: Callable[..., Any]
    log: EventLog
    stop: Stop
    checkpoint: Checkpoint | None = None
    load_seconds: list[float] = field(default_factory=list)
    is_main: bool = True

    def generation_progress(self, phase: str) -> Callable[[int, int], None]:
        """Return a callback that reports generated answers; it raises when the run must stop."""

        def progress(done: int, total: int) -> None:
            self.stop.check()
            self.log.phase(phase, "Answering evaluation rows", done=done, total=total)

        return progress
