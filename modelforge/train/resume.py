"""Where a worker begins: at the first update, or at the newest checkpoint that can be trusted."""

from __future__ import annotations

import shutil

from modelforge.runs import checkpoints
from modelforge.runs.atomic_files import find_json
from modelforge.runs.checkpoints import Checkpoint
from modelforge.runs.event_types import ResumedEvent, StoppedEvent
from modelforge.runs.layout import RunFolder
from modelforge.train.event_log import EventLog

FIRST_STAGE = 1


def find_resume_point(run: RunFolder, log: EventLog) -> Checkpoint | None:
    """Return the checkpoint to go on from, and tell of it and of damaged ones; None for none.

    What an earlier worker has left half written is deleted.
    """
    checkpoints.sweep(run)
    if run.has_reward_model:
        remove_first_stage_checkpoints(run)
    found, damaged = checkpoints.newest_valid(run)
    for damage in damaged:
        text = f"{damage.name} is damaged and passed over: {damage.why}."
        log.note("checkpoint-damaged", text)
    skipped = [{"name": damage.name, "why": damage.why} for damage in damaged]
    if found is not None:
        log.resumed(
            ResumedEvent(step=found.step, stage=found.stage, checkpoint=found.name, damaged=skipped)
        )
    elif (find_json(run.process) or {}).get("after"):
        stage = FIRST_STAGE + 1 if run.has_reward_model else None
        log.resumed(ResumedEvent(step=0, stage=stage, damaged=skipped))
    return found


def remove_first_stage_checkpoints(run: RunFolder) -> None:
    """Delete the checkpoints of a first stage that is over: its reward model is kept."""
    for each in checkpoints.listed(run):
        if each.stage == FIRST_STAGE:
            checkpoints.remove(each.path)


def end_before_training(run: RunFolder, log: EventLog, found: Checkpoint | None, wish: str) -> None:
    """Tell that the run was stopped before it made or went on with its updates."""
    if found is None or wish == "discard":
        shutil.rmtree(run.checkpoints, ignore_errors=True)
        if found is not None:
            shutil.rmtree(run.output, ignore_errors=True)
        log.line("Stopped before the first update.")
        log.end(StoppedEvent(step=0, kept=False))
        return
    log.line(f"Stopped before it went on; {found.name} stays.")
    log.end(StoppedEvent(step=found.step, kept=run.has_result))
