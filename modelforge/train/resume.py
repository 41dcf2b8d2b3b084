"""Find the newest valid checkpoint of a run."""

from __future__ import annotations

import shutil
from pathlib import Path

from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError
from modelforge.runs import checkpoints
from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.checkpoints import Checkpoint
from modelforge.runs.event_types import ResumedEvent, StoppedEvent
from modelforge.runs.layout import RunFolder
from modelforge.train.event_log import EventLog
from modelforge.train.stop import StopMode

FIRST_STAGE = 1


def find_resume_point(run: RunFolder, log: EventLog) -> Checkpoint | None:
    """Return the checkpoint to resume from, or None; report it and damaged checkpoints.

    Unfinished checkpoints of an earlier worker are deleted.
    """
    checkpoints.sweep(run)
    remove_checkpoints_until(run, _finished_stages(run))
    found, damaged = checkpoints.newest_valid(run)
    if found is None:
        found = _adopt_checkpoint(run)
    for damage in damaged:
        text = f"{damage.name} is damaged and was skipped: {damage.why}."
        log.note("checkpoint-damaged", text)
    skipped = [{"name": damage.name, "why": damage.why} for damage in damaged]
    if found is not None:
        log.write(
            ResumedEvent(step=found.step, stage=found.stage, checkpoint=found.name, damaged=skipped)
        )
    elif (find_json(run.process) or {}).get("after"):
        finished = _finished_stages(run)
        stage = finished + 1 if finished else None
        log.write(ResumedEvent(step=0, stage=stage, damaged=skipped))
    return found


def _adopt_checkpoint(run: RunFolder) -> Checkpoint | None:
    """Copy the checkpoint of another run that the plan names, and return it; None without one.

    Raises:
        WorkerError: It is damaged.
        OSError: It cannot be copied.
    """
    record = find_json(run.config) or {}
    source = (record.get("plan") or {}).get("resume_from")
    if not source or record.get("trial_run"):
        return None
    folder = Path(source)
    damage = checkpoints.verify(folder)
    if damage is not None:
        what = f"{damage.name} of the run {folder.parent.parent.name} is damaged: {damage.why}."
        remedy = "Choose another checkpoint, or leave it empty to start from the beginning."
        problem = Problem("trainer.resume_from_checkpoint", what, remedy)
        raise WorkerError("checkpoint-damaged", problem)
    _require_whole(folder, (record.get("plan") or {}).get("ranks", 1))
    checkpoints.copy_with_best(folder, run.checkpoints)
    adopted = checkpoints.read_checkpoint(run.checkpoints / folder.name)
    if adopted is not None:
        came_from = {"run": folder.parent.parent.name, "step": adopted.step}
        write_json(run.came_from, came_from)
    return adopted


def _require_whole(folder: Path, ranks: int) -> None:
    """Make sure that a checkpoint which DeepSpeed has divided is of as many GPUs.

    Raises:
        WorkerError: It is of another number.
    """
    parts = {
        path.name.split("_mp_rank")[0] for path in folder.glob("global_step*/*_optim_states.pt")
    }
    if parts and len(parts) != ranks:
        what = f"DeepSpeed has divided {folder.name} among {len(parts)} GPUs; this run has {ranks}."
        remedy = f"Set hardware.gpus to {len(parts)}; checkpoints of ddp and fsdp2 are whole."
        problem = Problem("trainer.resume_from_checkpoint", what, remedy)
        raise WorkerError("checkpoint-divided", problem)


def _finished_stages(run: RunFolder) -> int:
    """Return the number of stages whose result is saved."""
    return FIRST_STAGE if run.has_reward_model else run.finished_stages


def remove_checkpoints_until(run: RunFolder, stage: int) -> None:
    """Delete the checkpoints of finished stages, whose models are kept."""
    for checkpoint in checkpoints.list_checkpoints(run):
        if checkpoint.stage is not None and checkpoint.stage <= stage:
            checkpoints.remove(checkpoint.path)


def end_before_training(
    run: RunFolder, log: EventLog, found: Checkpoint | None, mode: StopMode
) -> None:
    """Report that the run was stopped before its first step, or before it was resumed."""
    if found is None or mode == "discard":
        shutil.rmtree(run.checkpoints, ignore_errors=True)
        if found is not None:
            shutil.rmtree(run.output, ignore_errors=True)
        log.end(StoppedEvent(step=0, kept=False), "Stopped before the first step.")
        return
    text = f"Stopped before training was resumed; {found.name} is kept."
    log.end(StoppedEvent(step=found.step, kept=run.has_result), text)
