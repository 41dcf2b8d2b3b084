"""What a worker is to do: the run's record as the store wrote it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    """One run: its folder and name, what was asked, what that comes to, and the data.

    A rehearsal is a run that only measures what the real one will need.
    """

    run: RunFolder
    name: str
    config: TrainingConfig
    plan: Plan
    dataset: dict[str, Any]
    is_trial_run: bool = False

    @classmethod
    def read(cls, run: RunFolder) -> Job:
        """Read the record; nothing in it is decided anew."""
        record = read_json(run.config)
        return cls(
            run=run,
            name=record["name"],
            config=TrainingConfig(**record["config"]),
            plan=Plan.from_dict(record["plan"], record["config"]),
            dataset=record["dataset"],
            is_trial_run=record.get("trial_run", record.get("rehearsal")) is True,
        )


@dataclass(frozen=True)
class WorkerContext:
    """A job with what is needed to do it.

    `load(head, path)` returns model and tokenizer for a head; without a path those of the run.
    `checkpoint` is where the run goes on, if it does not begin.
    """

    job: Job
    load: Callable[..., Any]
    log: EventLog
    stop: Stop
    checkpoint: Checkpoint | None = None

    def generation_progress(self, phase: str) -> Callable[[int, int], None]:
        """Return a callback that reports generated answers; it raises when the run must stop."""

        def progress(done: int, total: int) -> None:
            self.stop.check()
            self.log.phase(phase, "Answering evaluation rows", done=done, total=total)

        return progress
