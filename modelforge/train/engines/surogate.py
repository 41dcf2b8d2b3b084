"""Train a run with the program Surogate: write its files, follow its log, adopt its adapter."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from huggingface_hub import snapshot_download

from modelforge.config.engines import find_surogate
from modelforge.config.visible_gpu import visible_gpu
from modelforge.modeling.errors import not_finite
from modelforge.runs import checkpoints
from modelforge.runs.event_types import (
    EvalEvent,
    FinishedEvent,
    PlanEvent,
    ResumedEvent,
    SavedEvent,
    StepEvent,
    StoppedEvent,
)
from modelforge.train import loop
from modelforge.train.engines import surogate_result as result
from modelforge.train.engines.surogate_files import (
    EngineFiles,
    WrittenRows,
    command_of,
    write_config,
    write_rows,
)
from modelforge.train.engines.surogate_log import EngineLog, finite, number
from modelforge.train.engines.surogate_process import EngineProcess, missing_engine
from modelforge.train.job import WorkerContext
from modelforge.train.merge import merge_result

POLL_S = 0.25


def run(context: WorkerContext) -> None:
    """Do a whole run; raises WorkerError if Surogate is missing, fails or has no result."""
    program = find_surogate()
    if not program:
        raise missing_engine()
    job, files = context.job, EngineFiles.of(context.job.run)
    files.begin()
    resumes = context.checkpoint is not None and result.restore_checkpoint(
        files, context.checkpoint
    )
    rows = write_rows(context, files, loop.iter_split_rows(context))
    result.link_model(job, _local_model(context), files.model, context.log.note)
    write_config(job, files, rows, resumes=resumes)
    context.stop.check()
    began = time.monotonic()
    context.log.phase("loading", "Starting Surogate")
    engine = EngineProcess(command_of(job, program, files), _variables(context))
    run_ = EngineRun(context, files, rows, engine)
    if resumes and context.checkpoint is not None:
        run_.step = context.checkpoint.step
        run_.known.add(context.checkpoint.step)
    try:
        run_.follow()
    finally:
        engine.kill()
    run_.finish(began)


def _local_model(context: WorkerContext) -> Path:
    """Return the folder of the base model; a model of the Hub is downloaded first."""
    plan = context.job.plan
    if Path(plan.model_path).is_dir():
        return Path(plan.model_path)
    context.log.phase("loading", f"Downloading {plan.model_path}")
    # Surogate has no option for a revision.
    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
    return Path(
        snapshot_download(plan.model_path, revision=plan.model_revision, allow_patterns=patterns)
    )


def _variables(context: WorkerContext) -> dict[str, str]:
    """Return what the environment of Surogate has besides ours: its GPU, and trackers offline."""
    config = context.job.config
    tracker = {"WANDB_MODE": config.logging.wandb_mode, "WANDB_DIR": str(context.job.run.trackers)}
    return {**visible_gpu(config.hardware.gpu_index), **tracker}


@dataclass
class _Steps:
    """Steps since the last event: their losses, tokens and seconds."""

    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0


@dataclass
class EngineRun:
    """A training by Surogate as it is followed.

    Attributes:
        step: Steps that were made.
        known: Steps of the checkpoints that the run has.
    """

    context: WorkerContext
    files: EngineFiles
    rows: WrittenRows
    engine: EngineProcess
    step: int = 0
    known: set[int] = field(default_factory=set)
    loss: float | None = None
    eval_loss: float | None = None
    best_loss: float | None = None
    best_step: int | None = None
    gpu_percent: float | None = None
    _is_planned: bool = False
    _steps: _Steps = field(default_factory=_Steps)

    def follow(self) -> None:
        """Report what Surogate does until it ends, and ask it to stop on a stop request."""
        log = EngineLog(self.files.log)
        while True:
            has_ended = self.engine.has_ended
            entries, is_new = log.read()
            if is_new and self.step:
                self._begin_anew()
            for entry in entries:
                self._report(entry)
            self._keep_checkpoints()
            if has_ended:
                return
            if self.context.stop.mode is not None:
                self.engine.ask_to_stop()
            time.sleep(POLL_S)

    def finish(self, began: float) -> None:
        """Adopt the result and write the ending event; `began` is a `time.monotonic()` value.

        Raises:
            WorkerError: Surogate has failed, or its result cannot be used.
        """
        mode, source = self.context.stop.mode, result.find_result(self.files)
        is_complete = self.engine.code == 0 and source is not None
        if mode is not None and (mode == "discard" or not is_complete):
            self._finish_stopped(keep=mode == "keep")
            return
        if not is_complete or source is None:
            raise self.engine.failure()
        self._adopt(source, self.step)
        merged = merge_result(self.context, None)
        if self.context.stop.mode == "discard":
            self._finish_stopped(keep=False)
            return
        event = FinishedEvent(
            steps=self.step,
            seconds=round(time.monotonic() - began, 1),
            output=self.context.job.run.output.name,
            merged=merged,
            loss=self.loss,
            eval_loss=self.eval_loss,
        )
        self.context.log.end(event, f"Finished after {self.step:,} steps.")

    def _finish_stopped(self, *, keep: bool) -> None:
        run, log = self.context.job.run, self.context.log
        newest, _damaged = checkpoints.newest_valid(run) if keep else (None, [])
        if newest is None:
            for folder in (run.checkpoints, run.output, run.merged, run.engine):
                shutil.rmtree(folder, ignore_errors=True)
            text = f"Stopped at step {self.step:,}; nothing is kept."
            log.end(StoppedEvent(step=self.step, kept=False), text)
            return
        if newest.step < self.step:
            log.note(
                "engine-stopped",
                f"Surogate writes no weights when it is stopped; those of step {newest.step:,} "
                "are kept, its newest checkpoint.",
            )
        self._adopt(newest.path, newest.step)
        best = newest.step if newest.step < self.step else None
        text = f"Stopped at step {self.step:,}; the trained weights are kept."
        log.end(StoppedEvent(step=self.step, kept=True, best_step=best), text)

    def _adopt(self, source: Path, steps: int) -> None:
        what = "adapter" if self.context.job.plan.trains == "adapter" else "model"
        self.context.log.phase("saving", f"Saving the {what}")
        result.adopt(
            self.context.job, source, self.context.log.note, steps=steps, eval_loss=self.eval_loss
        )
        self.files.remove_results()

    def _report(self, entry: dict[str, Any]) -> None:
        kind = entry.get("log")
        if kind == "gpu":
            self.gpu_percent = finite(entry, "gpu_util")
        elif kind == "step":
            self._report_step(entry)
        elif kind == "eval":
            self._report_evaluation(entry)

    def _report_step(self, entry: dict[str, Any]) -> None:
        """Report a step; Surogate counts from 0."""
        step, loss = int(number(entry, "step") or 0) + 1, number(entry, "loss")
        self._plan_once()
        if loss is None or not math.isfinite(loss):
            raise not_finite(f"The loss became {loss} at step {step}.")
        self.step, self.loss, steps = step, loss, self._steps
        steps.losses.append(loss)
        steps.tokens += int(finite(entry, "step_tokens") or 0)
        steps.seconds += (finite(entry, "duration_ms") or 0.0) / 1000
        self.context.log.phase("training", "Training", done=step, total=self._total)
        if step % self.context.job.config.logging.logging_steps == 0 or step == self._total:
            self.context.log.write(self._step_event(entry))
            self._steps = _Steps()

    def _step_event(self, entry: dict[str, Any]) -> StepEvent:
        steps = self._steps
        return StepEvent(
            step=self.step,
            total_steps=self._total,
            epoch=finite(entry, "epoch"),
            loss=sum(steps.losses) / len(steps.losses),
            learning_rate=finite(entry, "lr"),
            grad_norm=finite(entry, "norm"),
            tokens=steps.tokens,
            tokens_per_s=round(steps.tokens / steps.seconds, 2) if steps.seconds else None,
            seconds=round(steps.seconds / len(steps.losses), 4),
            cpu_percent=psutil.cpu_percent(),
            ram_gib=self.engine.memory_gib(),
            gpu_percent=self.gpu_percent,
        )

    def _report_evaluation(self, entry: dict[str, Any]) -> None:
        step, loss = int(number(entry, "step") or 0), number(entry, "loss")
        if loss is None or not math.isfinite(loss):
            raise not_finite(f"The evaluation loss is {loss} at step {step}.")
        self.eval_loss = loss
        is_best = step > 0 and (self.best_loss is None or loss < self.best_loss)
        if is_best:
            self.best_loss, self.best_step = loss, step
        epoch = finite(entry, "epoch")
        self.context.log.write(EvalEvent(step=step, epoch=epoch, loss=loss, best=is_best))

    @property
    def _total(self) -> int | None:
        return self.engine.total_steps or self.context.job.plan.total_steps

    def _plan_once(self) -> None:
        """Write the plan event before the first step."""
        if self._is_planned:
            return
        self._is_planned = True
        plan, config = self.context.job.plan, self.context.job.config
        self.context.log.write(
            PlanEvent(
                total_steps=self._total or 0,
                epochs=config.num_train_epochs if config.max_steps <= 0 else None,
                max_length=plan.max_length,
                device=plan.device,
                precision=plan.precision,
                quantization=plan.quantization,
                method=plan.method,
                train_rows=self.rows.count("train"),
                eval_rows=self.rows.count("eval"),
            )
        )

    def _begin_anew(self) -> None:
        """Report that Surogate has started its training again, as it does without memory."""
        text = "Surogate has started the training again, with smaller batches."
        self.context.log.note("engine-restarted", text)
        self.context.log.write(ResumedEvent(step=0))
        self.step, self._steps, self.best_loss, self.best_step = 0, _Steps(), None, None
        self._is_planned = False
        self.known.clear()

    def _keep_checkpoints(self) -> None:
        limit = self.context.job.config.trainer.save_total_limit
        for step, folder in result.new_checkpoints(self.files, self.known):
            path = result.keep_checkpoint(self.context.job.run, folder, step, limit)
            self.known.add(step)
            relative = path.relative_to(self.context.job.run.path).as_posix()
            self.context.log.write(SavedEvent(step=step, path=relative))
