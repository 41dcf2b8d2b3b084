"""Checkpoints that are there whole or not at all, and a training that goes on as if never ended.

Transformers writes a checkpoint file by file into its place, deletes older ones before it is safe,
and forgets what it has in memory between two log lines. Mixed into a trainer, this stages,
verifies and names what is saved, and keeps the rest of the state beside it.
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

from modelforge.runs import checkpoints
from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.layout import RunFolder
from modelforge.train.rng import RngState, preserve_rng
from modelforge.train.trainer.state import (
    TrainerSnapshot,
    counters,
    measures,
    recompute_learning_rate,
)

PROGRESS = "progress.json"
EPOCH = "epoch"
ORDER = "order.pt"
# A pickle that nobody reads.
NOT_KEPT = "training_args.bin"


class Part(Protocol):
    """Somebody beside the trainer whose state belongs to a checkpoint."""

    def state(self) -> dict[str, Any]:
        """Return the state as plain data."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""


@dataclass
class Terms:
    """On what terms a run keeps checkpoints: where, how many, of which stage, and whose state.

    `note` tells a person something.
    """

    run: RunFolder
    limit: int
    stage: int | None
    note: Callable[[str, str], None]
    parts: dict[str, Part] = field(default_factory=dict)


class CheckpointMixin:
    """Mixed into every trainer, before its class of TRL or Transformers.

    It also writes no model card with a checkpoint, which may ask the Hub.
    """

    terms: Terms | None = None
    best_is_lost = False
    _staged: Path | None = None
    _from: Path | None = None
    _in_mid_epoch = False
    _order: Any = None
    _epoch_began: tuple[RngState, Any] | None = None
    _moment: TrainerSnapshot | None = None
    _in_update = _at_epoch = _owes_check = False

    def create_model_card(self, *_args: Any, **_kwargs: Any) -> None:
        """Write nothing; the output has a card of its own."""

    # Saving

    def keep_checkpoints(self, terms: Terms) -> None:
        """Keep checkpoints on these terms from now on."""
        self.terms = terms
        self.add_callback(_Watch(self))  # type: ignore[attr-defined]

    @property
    def is_saved(self) -> bool:
        """Whether there is a checkpoint of the newest update."""
        trainer: Any = self
        place = Path(trainer.args.output_dir) / f"checkpoint-{trainer.state.global_step}"
        return checkpoints.verify(place, hashes=False) is None

    def save_now(self) -> None:
        """Save a checkpoint of the newest whole update; what followed it is let go."""
        trainer: Any = self
        if self._in_update and self._moment is not None:
            self._moment.restore(trainer)
            if self._moment.order is not None:
                self._order.generator.set_state(self._moment.order)
        self._save_checkpoint(trainer.model, None)
        trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)

    def _get_output_dir(self, trial: Any) -> str:
        if self._staged is not None:
            return str(self._staged)
        return str(super()._get_output_dir(trial))  # type: ignore[misc]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        trainer: Any = self
        home = Path(trainer.args.output_dir)
        step = trainer.state.global_step
        name = f"checkpoint-{step}"
        self._staged = home / f"{checkpoints.STAGED}{secrets.token_hex(4)}"
        staged = self._staged / name
        best = trainer.state.best_model_checkpoint
        try:
            staged.mkdir(parents=True)
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            if trainer.state.best_global_step == step:
                best = str(home / name)
            trainer.state.best_model_checkpoint = best
            self._add_what_is_missing(staged)
            checkpoints.write_manifest(
                staged, step=step, stage=self.terms.stage if self.terms else None
            )
            checkpoints.put_in_place(staged, home / name)
        finally:
            shutil.rmtree(self._staged, ignore_errors=True)
            self._staged = None
        if self.terms is not None:
            kept = trainer.state.best_global_step if best else None
            checkpoints.prune(self.terms.run, self.terms.limit, newest=step, best=kept)

    def _add_what_is_missing(self, staged: Path) -> None:
        trainer: Any = self
        (staged / NOT_KEPT).unlink(missing_ok=True)
        best = trainer.state.best_model_checkpoint
        # The home may be moved, so the best is known by its name alone.
        trainer.state.best_model_checkpoint = Path(best).name if best else None
        trainer.state.save_to_json(str(staged / "trainer_state.json"))
        trainer.state.best_model_checkpoint = best
        if self._epoch_began is not None:
            chance, order = self._epoch_began
            with preserve_rng():
                chance.restore()
                trainer._save_rng_state(str(staged / EPOCH))
            if order is not None:
                both = {"began": order, "now": _state_of(self._order)}
                torch.save(both, staged / EPOCH / ORDER)
        parts = self.terms.parts if self.terms else {}
        progress = {
            "counters": counters(trainer),
            "measures": {
                name: {key: [float(value) for value in values] for key, values in found.items()}
                for name, found in measures(trainer).items()
            },
            "loss": float(trainer._tr_loss),
            "parts": {name: part.state() for name, part in parts.items()},
        }
        write_json(staged / PROGRESS, progress)

    def _load_best_model(self) -> None:
        trainer: Any = self
        folder = Path(trainer.state.best_model_checkpoint)
        damage = checkpoints.verify(folder)
        if damage is None:
            super()._load_best_model()  # type: ignore[misc]
            return
        self.best_is_lost = True
        if self.terms is not None:
            text = f"{folder.name} was the best, but {damage.why}; the newest weights are kept."
            self.terms.note("best-lost", text)

    # Going on

    def _init_training_state(
        self, max_steps: int, each_epoch: int, epochs: int, resumed: str | None, trial: Any
    ) -> tuple[int, int]:
        trainer: Any = self
        found = super()._init_training_state(  # type: ignore[misc]
            max_steps, each_epoch, epochs, resumed, trial
        )
        if resumed is not None:
            self._from = Path(resumed)
            self._in_mid_epoch = found[1] > 0
            # What is to be done how often may have changed, when a run is continued.
            trainer.state.compute_steps(trainer.args, max_steps)
            best = self._from.parent / f"checkpoint-{trainer.state.best_global_step}"
            trainer.state.best_model_checkpoint = str(best) if best.is_dir() else None
        return int(found[0]), int(found[1])

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        trainer: Any = self
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        if checkpoint is None:
            return
        planned = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json"))
        if planned.max_steps != trainer.state.max_steps:
            recompute_learning_rate(trainer.optimizer, trainer.lr_scheduler)

    def _run_epoch(self, *args: Any, **more: Any) -> None:
        trainer: Any = self
        if trainer.state.global_step >= trainer.state.max_steps:
            # The checkpoint was the last one; Transformers would make one more update.
            trainer.control.should_training_stop = True
            return
        super()._run_epoch(*args, **more)  # type: ignore[misc]

    def _get_train_sampler(self, *args: Any, **more: Any) -> Any:
        self._order = super()._get_train_sampler(*args, **more)  # type: ignore[misc]
        return self._order

    def evaluate(self, *args: Any, **more: Any) -> Any:
        """Check on the held-out rows; whether that was done changes nothing in what follows."""
        with preserve_rng():
            return super().evaluate(*args, **more)  # type: ignore[misc]

    def _evaluate(self, trial: Any, *args: Any, **more: Any) -> Any:
        trainer: Any = self
        metrics = super()._evaluate(trial, *args, **more)  # type: ignore[misc]
        if self._owes_check:
            # The run was stopped before the check of this update, which is made up for now.
            self._owes_check = False
            if trainer._determine_best_metric(metrics, trial):
                trainer.state.best_global_step = trainer.state.global_step
                name = f"checkpoint-{trainer.state.global_step}"
                trainer.state.best_model_checkpoint = str(Path(trainer.args.output_dir) / name)
        return metrics

    def take_up(self) -> None:
        """Take back what is not Transformers' own, once it has set up its loop."""
        trainer: Any = self
        progress = find_json(self._from / PROGRESS) if self._from is not None else None
        if progress is None:
            return
        vars(trainer).update(progress["counters"])
        for name, found in progress["measures"].items():
            vars(trainer)[name]["train"].update(found)
        trainer._tr_loss.fill_(progress["loss"])
        owed = False
        for name, part in (self.terms.parts if self.terms else {}).items():
            if (state := progress["parts"].get(name)) is not None:
                part.restore(state)
                owed = owed or bool(state.get("owes_check"))
        self._owes_check = trainer.args.eval_on_start = owed

    def begin_epoch(self) -> None:
        """Remember how chance stood before the rows of an epoch were put in order."""
        trainer: Any = self
        resumed, self._from = self._from, None
        self._at_epoch = True
        if resumed is not None:
            self._at_epoch = not self._in_mid_epoch
            trainer._load_rng_state(str(resumed / EPOCH if self._in_mid_epoch else resumed))
            if (resumed / EPOCH / ORDER).is_file():
                both = torch.load(resumed / EPOCH / ORDER, weights_only=True)
                self._order.generator.set_state(both["began" if self._in_mid_epoch else "now"])
        order = _state_of(self._order)
        self._epoch_began = RngState.now(), order
        self._moment = TrainerSnapshot.of(trainer, order)

    def begin_update(self) -> None:
        """Remember all that the batches of an update change, in case it is not ended."""
        # The order of an epoch's rows is drawn before its first update, but after what is saved.
        if not self._at_epoch:
            self._moment = TrainerSnapshot.of(self, _state_of(self._order))
        self._at_epoch, self._in_update = False, True

    def end_update(self) -> None:
        """Know that everything is of one update again."""
        self._in_update = False


class _Watch(TrainerCallback):
    """Tells the trainer where its loop is."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_train_begin(self, *_args: Any, **_more: Any) -> None:
        self._trainer.take_up()

    def on_epoch_begin(self, *_args: Any, **_more: Any) -> None:
        self._trainer.begin_epoch()

    def on_step_begin(self, *_args: Any, **_more: Any) -> None:
        self._trainer.begin_update()

    def on_step_end(self, *_args: Any, **_more: Any) -> None:
        self._trainer.end_update()


def _state_of(order: Any) -> torch.Tensor | None:
    """Return how the chance of an order of rows stands, where it has one of its own."""
    generator = getattr(order, "generator", None)
    return None if generator is None else generator.get_state()
