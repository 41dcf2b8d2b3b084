"""Atomic checkpoints and exact resume.

Transformers writes a checkpoint file by file into its final folder, deletes older ones before the
new one is complete, and does not save the state between two log lines. This mixin writes into a
staging folder, adds a manifest and a `progress.json` with the missing state, and renames the folder
when everything is on disk.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import TrainerCallback, TrainerState

from modelforge.config.plan.make import Plan
from modelforge.modeling.tokenizer_files import save_tokenizer
from modelforge.runs import checkpoints
from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.layout import RunFolder
from modelforge.train.trainer.private import accumulated_loss
from modelforge.train.trainer.ranks import RankMixin
from modelforge.train.trainer.state import (
    RngState,
    TrainerSnapshot,
    collected_metrics,
    counters,
    metrics,
    preserve_rng,
    recompute_learning_rate,
    restore_counters,
)

PROGRESS = "progress.json"
# Folder in a checkpoint: RNG state at the start of the epoch.
EPOCH = "epoch"
SAMPLER_RNG = "order.pt"
# State of the generator of an Apple GPU, which Transformers does not save.
MPS_RNG = "mps_rng.pt"
# A pickle that Transformers writes and nothing reads.
UNUSED_FILE = "training_args.bin"


class Stateful(Protocol):
    """An object whose state is saved in the checkpoint."""

    def state(self) -> dict[str, Any]:
        """Return the state as plain data."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state`."""


@dataclass(frozen=True)
class _TokenizerFiles:
    """Stands in for the tokenizer while Transformers saves a checkpoint."""

    tokenizer: Any
    plan: Plan

    def save_pretrained(self, folder: str) -> None:
        """Save the tokenizer, or else the files of the base model's tokenizer."""
        save_tokenizer(self.tokenizer, Path(folder), self.plan)


@dataclass
class CheckpointOptions:
    """Where checkpoints are kept, how many, of which stage, and which objects are saved in them.

    `note(code, text)` reports a note to the user.
    """

    run: RunFolder
    plan: Plan
    limit: int
    stage: int | None
    note: Callable[[str, str], None]
    parts: dict[str, Stateful] = field(default_factory=dict)


class CheckpointMixin(RankMixin):
    """Mixed into every trainer, before its TRL or Transformers class.

    It also skips the model card that TRL writes with each checkpoint, which may query the Hub.
    """

    processing_class: Any
    checkpoint_options: CheckpointOptions | None = None
    best_is_lost = False
    _staged: Path | None = None
    _resumed_from: Path | None = None
    _in_mid_epoch = False
    _sampler: Any = None
    _epoch_start: tuple[RngState, torch.Tensor | None] | None = None
    _snapshot: TrainerSnapshot | None = None
    _in_step = _at_epoch_start = _owes_evaluation = False

    def create_model_card(self, *_args: Any, **_kwargs: Any) -> None:
        """Do nothing; the output folder has its own model card."""

    # Saving

    def keep_checkpoints(self, options: CheckpointOptions) -> None:
        """Save checkpoints with these options from now on."""
        self.checkpoint_options = options
        self.add_callback(_LoopObserver(self))

    @property
    def is_saved(self) -> bool:
        """Whether a checkpoint of the current step exists."""
        return checkpoints.verify(self._checkpoint_folder(), hashes=False) is None

    def save_now(self) -> None:
        """Save a checkpoint of the last complete step; an unfinished step is discarded."""
        if self._in_step and self._snapshot is not None:
            self._snapshot.restore(self)
            if self._snapshot.sampler_rng is not None:
                self._sampler.generator.set_state(self._snapshot.sampler_rng)
        self._save_checkpoint(self.model, None)
        self.callback_handler.on_save(self.args, self.state, self.control)

    def _checkpoint_folder(self) -> Path:
        return Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staged or super()._get_output_dir(trial))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder, step = self._checkpoint_folder(), self.state.global_step
        options = self.checkpoint_options
        self._staged = folder.parent / self.staging_name(
            f"{checkpoints.STAGED}{secrets.token_hex(4)}"
        )
        staged = self._staged / folder.name
        best = self.state.best_model_checkpoint
        try:
            staged.mkdir(parents=True, exist_ok=True)
            super()._save_checkpoint(model, trial)
            if self.state.best_global_step == step:
                best = str(folder)
            self.state.best_model_checkpoint = best
            self._add_missing_state(staged)
            self.wait_for_all()
            if self.args.should_save:
                stage = options.stage if options else None
                checkpoints.write_manifest(staged, step=step, stage=stage)
                checkpoints.move_into_place(staged, folder)
            self.wait_for_all()
        finally:
            shutil.rmtree(self._staged, ignore_errors=True)
            self._staged = None
        if options is not None and self.args.should_save:
            best_step = self.state.best_global_step if best else None
            checkpoints.prune(options.run, options.limit, newest=step, best=best_step)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        tokenizer, options = self.processing_class, self.checkpoint_options
        if tokenizer is not None and options is not None:
            # A checkpoint must not fail because of the tokenizer, which a resume does not read.
            self.processing_class = _TokenizerFiles(tokenizer, options.plan)
        try:
            super()._save(output_dir, state_dict)
        finally:
            self.processing_class = tokenizer

    def _add_missing_state(self, staged: Path) -> None:
        if self.args.should_save:
            self._save_trainer_state(staged)
        if self._epoch_start is not None:
            rng, sampler_rng = self._epoch_start
            with preserve_rng():
                rng.restore()
                self._save_rng_state(str(staged / EPOCH))
            if sampler_rng is not None and self.args.should_save:
                both = {"began": sampler_rng, "now": _generator_state(self._sampler)}
                torch.save(both, staged / EPOCH / SAMPLER_RNG)
        loss = self.accelerator.reduce(accumulated_loss(self), "mean")
        if not self.args.should_save:
            return
        progress = {
            "counters": counters(self),
            "measures": {
                name: {key: [float(value) for value in values] for key, values in collected.items()}
                for name, collected in metrics(self).items()
            },
            "loss": float(loss),
            "parts": {name: part.state() for name, part in self._parts.items()},
        }
        write_json(staged / PROGRESS, progress)

    def _save_trainer_state(self, staged: Path) -> None:
        (staged / UNUSED_FILE).unlink(missing_ok=True)
        best = self.state.best_model_checkpoint
        # Only the name of the best checkpoint is saved, since the home folder may be moved.
        self.state.best_model_checkpoint = Path(best).name if best else None
        self.state.save_to_json(str(staged / "trainer_state.json"))
        self.state.best_model_checkpoint = best

    @property
    def _parts(self) -> dict[str, Stateful]:
        return self.checkpoint_options.parts if self.checkpoint_options else {}

    def _load_best_model(self) -> None:
        folder = Path(self.state.best_model_checkpoint or "")
        damage = checkpoints.verify(folder)
        if damage is None:
            self.load_best_weights(folder)
            return
        self.best_is_lost = True
        if self.checkpoint_options is not None:
            text = f"{folder.name} was the best, but {damage.why}; the newest weights are kept."
            self.checkpoint_options.note("best-lost", text)

    def result_model(self) -> Any:
        """Return the model that is saved as the result: an adapter on a model, or a model."""
        return self.model

    def _save_rng_state(self, folder: str) -> None:
        super()._save_rng_state(folder)
        if torch.backends.mps.is_available():
            torch.save(torch.mps.get_rng_state(), Path(folder) / MPS_RNG)

    # Resuming

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        path = Path(checkpoint or "") / MPS_RNG
        if path.is_file() and torch.backends.mps.is_available():
            torch.mps.set_rng_state(torch.load(path, weights_only=True))

    def _init_training_state(
        self, max_steps: int, steps_per_epoch: int, epochs: int, resumed: str | None, trial: Any
    ) -> tuple[int, int]:
        epoch, steps_done = super()._init_training_state(
            max_steps, steps_per_epoch, epochs, resumed, trial
        )
        if resumed is not None:
            self._resumed_from = Path(resumed)
            self._in_mid_epoch = steps_done > 0
            # The intervals may have changed when a finished run is continued.
            self.state.compute_steps(self.args, max_steps)
            best = self._resumed_from.parent / f"checkpoint-{self.state.best_global_step}"
            self.state.best_model_checkpoint = str(best) if best.is_dir() else None
        return int(epoch), int(steps_done)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        saved = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json"))
        if saved.max_steps != self.state.max_steps:
            recompute_learning_rate(self.optimizer, self.lr_scheduler)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step >= self.state.max_steps:
            # The checkpoint was of the last step; Transformers would do one more.
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        self._sampler = super()._get_train_sampler(*args, **kwargs)
        return self._sampler

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate without affecting the random numbers of the training that follows."""
        with preserve_rng():
            return super().evaluate(*args, **kwargs)

    def _evaluate(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        if self._owes_evaluation:  # its result counts for a schedule by results too
            kwargs["skip_scheduler"] = False
        result = super()._evaluate(trial, *args, **kwargs)
        if self._owes_evaluation:
            # The run was stopped before the evaluation of this step, which is done only now.
            self._owes_evaluation = False
            if self._determine_best_metric(result, trial):
                self.state.best_global_step = self.state.global_step
                self.state.best_model_checkpoint = str(self._checkpoint_folder())
        return result

    def restore_progress(self) -> None:
        """Restore the state from `progress.json` after Transformers has set up its loop."""
        folder = self._resumed_from
        progress = find_json(folder / PROGRESS) if folder is not None else None
        if progress is None:
            return
        restore_counters(self, progress["counters"])
        collected = collected_metrics(self)
        for name, values in progress["measures"].items():
            collected[name]["train"].update(values)
        accumulated_loss(self).fill_(progress["loss"])
        owes_evaluation = False
        for name, part in self._parts.items():
            state = progress["parts"].get(name)
            if state is not None:
                part.restore(state)
                owes_evaluation = owes_evaluation or bool(state.get("owes_check"))
        self._owes_evaluation = self.args.eval_on_start = owes_evaluation

    def begin_epoch(self) -> None:
        """Record the RNG state before the rows of an epoch are shuffled."""
        resumed, self._resumed_from = self._resumed_from, None
        self._at_epoch_start = True
        if resumed is not None:
            self._at_epoch_start = not self._in_mid_epoch
            self._load_rng_state(str(resumed / EPOCH if self._in_mid_epoch else resumed))
            if (resumed / EPOCH / SAMPLER_RNG).is_file():
                both = torch.load(resumed / EPOCH / SAMPLER_RNG, weights_only=True)
                self._sampler.generator.set_state(both["began" if self._in_mid_epoch else "now"])
        sampler_rng = _generator_state(self._sampler)
        self._epoch_start = RngState.now(), sampler_rng
        self._snapshot = TrainerSnapshot.of(self, sampler_rng)

    def begin_step(self) -> None:
        """Record the state before a step, in case the step is not completed."""
        # The rows of an epoch are shuffled before its first step, but after the recorded state.
        if not self._at_epoch_start:
            self._snapshot = TrainerSnapshot.of(self, _generator_state(self._sampler))
        self._at_epoch_start, self._in_step = False, True

    def end_step(self) -> None:
        """Record that the step is complete."""
        self._in_step = False


class _LoopObserver(TrainerCallback):
    """Informs the mixin about the position in the training loop."""

    def __init__(self, trainer: CheckpointMixin) -> None:
        self._trainer = trainer

    def on_train_begin(self, *_args: Any, **_kwargs: Any) -> None:
        self._trainer.restore_progress()

    def on_epoch_begin(self, *_args: Any, **_kwargs: Any) -> None:
        self._trainer.begin_epoch()

    def on_step_begin(self, *_args: Any, **_kwargs: Any) -> None:
        self._trainer.begin_step()

    def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
        self._trainer.end_step()


def _generator_state(sampler: Any) -> torch.Tensor | None:
    """Return the state of the sampler's own generator (a uint8 tensor), or None without one."""
    generator = getattr(sampler, "generator", None)
    return None if generator is None else generator.get_state()
