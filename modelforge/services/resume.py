"""Resume a run, continue it for longer, or start a new run from its adapter."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from modelforge.config.optimizers import RESULT_SCHEDULES
from modelforge.config.plan.run_length import ruling_measure
from modelforge.config.resolve import Layer
from modelforge.config.schema.base import about
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.run_length import Measure
from modelforge.data.sources.load import source_entries
from modelforge.errors import BusyError, ConfigError, Problem
from modelforge.runs.atomic_files import disk_error, write_json
from modelforge.runs.checkpoints import (
    Checkpoint,
    Damage,
    copy_with_best,
    list_checkpoints,
    newest_valid,
    remove_later,
    valid_checkpoints,
    verify,
)
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.launch import Target, read_launch
from modelforge.runs.states import RunState
from modelforge.runs.store import STAGING, NewRun
from modelforge.runs.view import RunView
from modelforge.services.runs import RunService
from modelforge.services.start import RunLauncher
from modelforge.services.targets.service import HERE, TargetService

RESUME, CONTINUE, FROM_ADAPTER = "resume", "continue", "start-from"
CONTINUED = " · continued"
STILL_ACTIVE = "The run is still active."
# Learning rate schedules that do not depend on the length of the run.
CONSTANT_SCHEDULES = ("constant", "constant_with_warmup", *RESULT_SCHEDULES)


@dataclass(frozen=True)
class ResumeOption:
    """One way to continue a run."""

    kind: Annotated[str, about("resume, continue or start-from.")]
    step: Annotated[int, about("The step to continue from; 0: from the beginning.")] = 0
    stage: Annotated[int | None, about("The stage to continue with, if not the first.")] = None
    text: Annotated[str, about("What would happen.")] = ""
    why_not: Annotated[str, about("Why it is not possible; empty if it is.")] = ""

    @property
    def continues(self) -> bool:
        """Whether something of the run is kept to continue from."""
        return bool(self.step or self.stage)

    @property
    def kept(self) -> str:
        """What is kept to continue from, as a sentence; empty if nothing is or can be used."""
        if self.why_not or not self.continues:
            return ""
        if self.stage and not self.step:
            kept = f"The model of stage {self.stage - 1} is kept"
            return f"{kept}; resuming continues with stage {self.stage}."
        return f"The checkpoint of {self.place} is kept; resuming continues from it."

    @property
    def place(self) -> str:
        """The step to continue from, with its stage if that is not the first."""
        is_later = self.stage is not None and self.stage > 1
        return f"step {self.step:,}" + (f" of stage {self.stage}" if is_later else "")


@dataclass(frozen=True)
class SavedStep:
    """A checkpoint that a run can be resumed or continued from."""

    step: int
    stage: Annotated[int | None, about("Its stage, in runs with several.")]
    bytes: Annotated[int, about("Its size.")]


@dataclass(frozen=True)
class ResumeOptions:
    """The ways to continue a run that is over."""

    resume: ResumeOption
    continue_: Annotated[ResumeOption, Field(alias="continue")]
    start_from: ResumeOption
    damaged: Annotated[list[Damage], about("Damaged checkpoints, which are skipped.")]
    checkpoints: Annotated[
        list[SavedStep], about("Intact checkpoints to choose from, the newest first.")
    ] = field(default_factory=list)


class ResumeService:
    """Continue runs that are over."""

    def __init__(self, runs: RunService, launcher: RunLauncher, targets: TargetService) -> None:
        self._runs = runs
        self._launcher = launcher
        self._targets = targets

    def options(self, run_id: str) -> ResumeOptions:
        """Return the ways to continue a run; checkpoint files are compared by size only."""
        folder, view = self._runs.folder(run_id), self._runs.view(run_id)
        checkpoint, damaged = newest_valid(folder, hashes=False)
        return ResumeOptions(
            _resume_option(view, folder, checkpoint),
            _continue_option(view, checkpoint),
            _adapter_option(view, folder),
            damaged,
            [SavedStep(each.step, each.stage, each.size) for each in valid_checkpoints(folder)],
        )

    def resume(self, run_id: str, step: int | None = None, on: str | None = None) -> str:
        """Start a run again, from its newest valid checkpoint if it has one; return its id.

        With `step` it starts from the checkpoint of that step, and later ones are deleted. `on` is
        a target or `here`, by default where the run was. Raises BusyError while this or another run
        is active, ConfigError if the run cannot be resumed, BlockedError if it does not fit any
        more.
        """
        folder = self._require(run_id, lambda options: options.resume)
        target = self._target(folder, on)
        view = self._runs.view(run_id)
        name = target.name if target else None
        plan = self._launcher.require_fit(Layer("body", view.config), on=name)
        if plan is not None and plan.device != view.plan.device:
            what = f"The run was planned for {view.plan.device}, and there is {plan.device}."
            raise ConfigError(Problem("run", what, _new_run(folder.has_adapter)))
        chosen = None if step is None else _checkpoint_of(folder, step)
        with self._launcher.claim():
            if target is None:
                self._launcher.require_free()
            else:
                self._launcher.require_slot(target)
            self._launcher.move(folder, target.name if target else HERE)
            if chosen is not None:
                remove_later(folder, chosen)
            self._launcher.launch(folder, again=True)
        return folder.id

    def _target(self, folder: RunFolder, on: str | None) -> Target | None:
        """Return where a run is to be resumed, by default where it was; None for here."""
        launch = read_launch(folder.launch)
        name = on or (launch.target.name if launch else HERE)
        return None if name == HERE else self._targets.get(name).target

    def continue_run(
        self,
        run_id: str,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        from_step: int | None = None,
        request_id: str | None = None,
    ) -> str:
        """Start a new run that continues from the end of this one; return the new id.

        With `from_step` it continues from the checkpoint of that step.
        The new run is longer by `epochs` or `steps`; by default by one epoch, or by as many steps
        as the run has. Raises what `RunService.start` raises.
        """
        folder = self._runs.folder(run_id)
        staged = folder.path.parent / f"{STAGING}{folder.id}-{secrets.token_hex(2)}"

        def prepare() -> NewRun:
            self._require(run_id, lambda options: options.continue_)
            run = self._prepare_longer(self._runs.view(run_id), epochs, steps, request_id)
            try:
                _copy_checkpoints(folder, staged, from_step)
            except OSError as error:
                raise disk_error(error, staged) from error
            return run

        def move_copy(created: RunFolder) -> None:
            try:
                for part in staged.iterdir():
                    part.rename(created.path / part.name)
            except OSError as error:
                raise disk_error(error, created.checkpoints) from error

        try:
            return self._launcher.create_once(
                request_id, prepare, lambda run: self._launcher.start(run, move_copy)
            )
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _require(self, run_id: str, choose: Callable[[ResumeOptions], ResumeOption]) -> RunFolder:
        folder = self._runs.folder(run_id)
        if self._runs.state(run_id).is_active:
            problem = Problem("run", f"{folder.id} is still active.", "Stop it first.")
            raise BusyError(problem, folder.id)
        option = choose(self.options(run_id))
        if option.why_not:
            raise ConfigError(Problem("run", option.why_not, "Choose another way to continue."))
        return folder

    def _prepare_longer(
        self, view: RunView, epochs: int | None, steps: int | None, request_id: str | None
    ) -> NewRun:
        name = f"{view.name.removesuffix(CONTINUED)}{CONTINUED}"
        layer = Layer("body", _longer_config(view, epochs, steps))
        run = self._launcher.prepare(layer, name=name, request_id=request_id)
        if _data_hashes(run.dataset) != _data_hashes(view.dataset):
            what = "The data has changed since the run, so its epochs cannot be continued."
            remedy = _new_run(view.plan.trains == "adapter")
            raise ConfigError(Problem("dataset", what, remedy))
        return run


def _new_run(has_adapter: bool) -> str:
    """Return what to do where a run cannot be continued."""
    return f"Start a new run{' from its adapter' if has_adapter else ''} instead."


def _checkpoint_of(folder: RunFolder, step: int) -> Checkpoint:
    """Return the intact checkpoint of a step; raises ConfigError with the steps there are."""
    chosen = next((each for each in list_checkpoints(folder) if each.step == step), None)
    if chosen is not None and verify(chosen.path) is None:
        return chosen
    steps = ", ".join(f"{each.step}" for each in valid_checkpoints(folder) if each != chosen)
    what = f"There is no intact checkpoint of step {step:,}."
    remedy = f"Choose one of the steps {steps}." if steps else "Start the run from the beginning."
    raise ConfigError(Problem("step", what, remedy))


def _copy_checkpoints(folder: RunFolder, staged: Path, step: int | None) -> None:
    """Copy a checkpoint, the best one, and the models of the run, and note their origin.

    Without a step it is the newest intact one.
    """
    newest = newest_valid(folder)[0] if step is None else _checkpoint_of(folder, step)
    if newest is None:
        what = "None of its checkpoints is complete."
        raise ConfigError(Problem("run", what, _new_run(folder.has_adapter)))
    copy_with_best(newest.path, staged / "checkpoints")
    if folder.has_reward_model:
        shutil.copytree(folder.reward_model, staged / folder.reward_model.name)
    if folder.start_model.is_dir():
        shutil.copytree(folder.start_model, staged / folder.start_model.name)
    write_json(staged / folder.came_from.name, {"run": folder.id, "step": newest.step})


def _resume_option(view: RunView, folder: RunFolder, checkpoint: Checkpoint | None) -> ResumeOption:
    step = checkpoint.step if checkpoint else 0
    done = 1 if folder.has_reward_model else folder.finished_stages
    stage = checkpoint.stage if checkpoint else done + 1 if done else None
    of_stage = f" of stage {stage}" if stage else ""
    why_not = ""
    if view.state is RunState.FINISHED:
        why_not = "The run is finished; it can be continued for longer."
    elif not view.state.is_over:
        why_not = STILL_ACTIVE if view.state.is_active else "The run has not been started yet."
    text = "Starts from the beginning: no checkpoint was saved."
    if stage:
        kept = "reward model" if folder.has_reward_model else "model"
        text = f"Resumes with stage {stage}: the {kept} of stage {done} is kept."
    if step:
        text = f"Resumes from step {step:,}{of_stage}."
    return ResumeOption(RESUME, step, stage, text, why_not)


def _continue_option(view: RunView, checkpoint: Checkpoint | None) -> ResumeOption:
    why_not = ""
    if not view.state.is_over:
        why_not = STILL_ACTIVE
    elif view.plan.growing is not None:
        why_not = "A growing model has its stages; start another run on its result."
    elif checkpoint is None:
        why_not = "The run has no checkpoint to continue from."
    elif checkpoint.stage == 1:
        why_not = "The first stage of the run is not complete; resume the run first."
    step = checkpoint.step if checkpoint else 0
    text = "A new run continues from there; this run is not changed."
    more = f"{text} {rate_when_longer(view, step)}"
    if view.plan.pretraining is not None:
        more += f" A step keeps its {view.plan.pretraining.batch_tokens:,} tokens."
    return ResumeOption(CONTINUE, step, text=more, why_not=why_not)


def rate_when_longer(view: RunView, step: int) -> str:
    """Return how the learning rate changes when a run is continued."""
    if view.plan.lr_scheduler_type in CONSTANT_SCHEDULES:
        return "The learning rate does not change."
    return (
        "The learning rate schedule is computed for the whole length: at step "
        f"{step:,} the learning rate rises to its value in a run of that length and decays again."
    )


def _adapter_option(view: RunView, folder: RunFolder) -> ResumeOption:
    why_not = ""
    if not view.state.is_over:
        why_not = STILL_ACTIVE
    elif not folder.has_adapter:
        why_not = "The run has no adapter."
    text = "A new run starts from the adapter of this one; steps and schedule start from 0."
    return ResumeOption(FROM_ADAPTER, text=text, why_not=why_not)


def _longer_config(view: RunView, epochs: int | None, steps: int | None) -> dict[str, Any]:
    """Return the settings of a run with more epochs or steps."""
    # The default depends on the release; a checkpoint holds the state of its own optimizer.
    config = {"optim": view.plan.optim, **view.config}
    if view.plan.pretraining is not None:
        # A longer training would choose a larger batch, and read other text at the same step.
        batch = {"total_batch_tokens": view.plan.pretraining.batch_tokens}
        config["pretraining"] = {**config["pretraining"], **batch}
    measure = length_measure(view)
    if epochs is not None and steps is not None:
        raise ConfigError(Problem("steps", "Epochs and steps are both given.", "Give one."))
    if steps is None and epochs is None:
        steps, epochs = (None, 1) if measure == "num_train_epochs" else (_length(view), None)
    if epochs is not None:
        if measure != "num_train_epochs":
            how = "in steps" if measure == "max_steps" else f"by {measure}"
            what = f"The length of the run is set {how} ({_length(view):,} steps), not in epochs."
            raise ConfigError(Problem("epochs", what, "Give the number of further steps: steps."))
        config["num_train_epochs"] = int(config.get("num_train_epochs", 1)) + epochs
    else:
        # Steps take precedence over every other measure.
        config["max_steps"] = _length(view) + (steps or 0)
    return config


def length_measure(view: RunView) -> Measure:
    """Return the setting that decides how long a run is; a training from nothing has steps."""
    if view.plan.pretraining is not None:
        return "max_steps"
    return ruling_measure(TrainingConfig.from_record(view.config))


def _length(view: RunView) -> int:
    max_steps = int(view.config.get("max_steps", -1))
    return max_steps if max_steps > 0 else view.total_steps or view.step


def _data_hashes(record: Mapping[str, Any]) -> list[Any]:
    """Return the SHA-256 of every training and validation source."""
    sources = [*source_entries(dict(record)), *source_entries(dict(record), "validation")]
    return [source.get("sha256") for source in sources]
