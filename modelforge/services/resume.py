"""Going on with a run that is over: from its checkpoint, for longer, or from its adapter."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelforge.config.resolve import Layer
from modelforge.data.sources.load import source_entries
from modelforge.errors import BusyError, ConfigError, ForgeError, Problem
from modelforge.runs.atomic_files import disk_error, find_json, write_json
from modelforge.runs.checkpoints import Checkpoint, Damage, listed, newest_valid, verify
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.states import RunState
from modelforge.runs.store import STAGING, Store
from modelforge.runs.view import RunView, view_run
from modelforge.services.start import Order, StartDesk

RESUME, CONTINUE, FROM_ADAPTER = "resume", "continue", "start-from"
_MORE = " · continued"
_TAKE_ADAPTER = "Start a new run from its adapter instead."
_GOES_ON = "It is still going on."
_NEW = "A new run learns on from there; this one stays as it is."
# Schedules whose rate does not depend on how long the run is.
_STAYS = ("constant", "constant_with_warmup")


@dataclass(frozen=True)
class Offer:
    """One way to go on: `text` says what would happen, or `why_not` why it cannot be done.

    `step` is the update to go on from; 0 is anew.
    """

    kind: str
    step: int = 0
    text: str = ""
    why_not: str = ""


@dataclass(frozen=True)
class Offers:
    """Every way to go on with a run, and the checkpoints that are passed over."""

    resume: Offer
    continue_: Offer
    start_from: Offer
    damaged: list[Damage]

    def as_dict(self) -> dict[str, Any]:
        """Return the offers as plain data."""
        return {
            "resume": asdict(self.resume),
            "continue": asdict(self.continue_),
            "start_from": asdict(self.start_from),
            "damaged": [each.as_dict() for each in self.damaged],
        }


class Again:
    """Offers and does what can be done with a run that is over."""

    def __init__(self, store: Store, supervisor: Supervisor, starts: StartDesk) -> None:
        self._store = store
        self._supervisor = supervisor
        self._starts = starts

    def offers(self, run_id: str) -> Offers:
        """Return what can be done with a run; sizes are compared, hashes only when it is done."""
        folder = self._store.get(run_id)
        view = view_run(folder, self._supervisor.state(folder))
        found, damaged = newest_valid(folder, hashes=False)
        return Offers(
            _resuming(view, found), _continuing(view, found), _starting(view, folder), damaged
        )

    def resume(self, run_id: str) -> str:
        """Start a run once more, from its newest valid checkpoint or anew; return its id.

        Raises BusyError while it or another run goes on, ConfigError when there is nothing to do,
        BlockedError where there is no room for it any more.
        """
        folder = self._require(run_id, lambda offers: offers.resume)
        view = view_run(folder, self._supervisor.state(folder))
        self._starts.require_room(Layer("body", view.config))
        self._starts.launch(folder, again=True)
        return folder.id

    def continue_run(
        self,
        run_id: str,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        request_id: str | None = None,
    ) -> str:
        """Start a new run that learns on from the end of this one; return the new id.

        It is longer than this one by `epochs` or by `steps` updates; nothing said is one epoch,
        or as many updates again. Raises what `Forge.start` raises.
        """
        if known := self._starts.known(request_id):
            return known.id
        folder = self._require(run_id, lambda offers: offers.continue_)
        view = view_run(folder, self._supervisor.state(folder))
        order = self._longer(view, epochs, steps)
        found, _damaged = newest_valid(folder)
        if found is None:
            raise ConfigError(Problem("run", "No checkpoint of it is whole.", _TAKE_ADAPTER))
        staged = self._copied(folder, found)
        try:
            return self._begin(view, order, staged, found, request_id)
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def start_from(self, run_id: str, said: Mapping[str, Any] | None = None) -> str:
        """Start a new run from the adapter of this one, with its settings or others."""
        self._require(run_id, lambda offers: offers.start_from)
        answers = Layer("body", self.answers_from(run_id, said))
        return self._starts.start(answers, name=None, request_id=None)

    def answers_from(self, run_id: str, said: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the answers of a new run from the adapter of this one."""
        folder = self._store.get(run_id)
        config = view_run(folder, self._supervisor.state(folder)).config
        adapter = {**config.get("adapter", {}), "start_from": run_id, "init": "default"}
        return {**config, **(said or {}), "adapter": adapter}

    def _require(self, run_id: str, which: Callable[[Offers], Offer]) -> RunFolder:
        folder = self._store.get(run_id)
        if self._supervisor.state(folder).is_active:
            problem = Problem("run", f"{folder.id} is still going on.", "Stop it first.")
            raise BusyError(problem, folder.id)
        offer = which(self.offers(run_id))
        if offer.why_not:
            raise ConfigError(Problem("run", offer.why_not, "Choose another way to go on."))
        return folder

    def _longer(self, view: RunView, epochs: int | None, steps: int | None) -> Order:
        name = f"{view.name.removesuffix(_MORE)}{_MORE}"
        order = self._starts.prepare(Layer("body", _longer(view, epochs, steps)), name=name)
        if _prints(order.material.as_record()) != _prints(view.dataset):
            what = "The data has changed since the run, so its epochs cannot be gone on with."
            raise ConfigError(Problem("dataset", what, _TAKE_ADAPTER))
        return order

    def _copied(self, folder: RunFolder, found: Checkpoint) -> Path:
        """Return a copy of what a new run goes on from: the newest checkpoint and the best."""
        staged = folder.path.parent / f"{STAGING}{folder.id}-{secrets.token_hex(2)}"
        state = find_json(found.path / "trainer_state.json") or {}
        best = next(
            (each for each in listed(folder) if each.step == state.get("best_global_step")), found
        )
        try:
            for each in {found.path, best.path}:
                if each == found.path or verify(each) is None:
                    shutil.copytree(each, staged / "checkpoints" / each.name)
            if folder.has_reward_model:
                shutil.copytree(folder.reward_model, staged / folder.reward_model.name)
        except OSError as error:
            shutil.rmtree(staged, ignore_errors=True)
            raise disk_error(error, staged) from error
        return staged

    def _begin(
        self,
        view: RunView,
        order: Order,
        staged: Path,
        found: Checkpoint,
        request_id: str | None,
    ) -> str:
        with self._supervisor.claim():
            if known := self._starts.known(request_id):
                return known.id
            self._starts.require_free()
            made = self._starts.create(order, request_id)
            try:
                write_json(made.came_from, {"run": view.id, "step": found.step})
                for each in staged.iterdir():
                    each.rename(made.path / each.name)
                self._starts.launch(made)
            except (OSError, ForgeError) as error:
                with contextlib.suppress(ForgeError):
                    self._store.delete(made.id)
                if isinstance(error, OSError):
                    raise disk_error(error, made.checkpoints) from error
                raise
        return made.id


def _resuming(view: RunView, found: Checkpoint | None) -> Offer:
    step = found.step if found else 0
    stage = f" of stage {found.stage}" if found and found.stage else ""
    why_not = ""
    if view.state is RunState.FINISHED:
        why_not = "It is finished; it can be continued for longer."
    elif not view.state.is_over:
        why_not = "It has not been started yet." if not view.state.is_active else _GOES_ON
    text = f"Goes on from update {step:,}{stage}." if step else "Begins anew: nothing was saved."
    return Offer(RESUME, step, text, why_not)


def _continuing(view: RunView, found: Checkpoint | None) -> Offer:
    why_not = ""
    if not view.state.is_over:
        why_not = _GOES_ON
    elif found is None:
        why_not = "It has no checkpoint to go on from."
    elif found.stage == 1:
        why_not = "Its first stage is not over; resume it first."
    step = found.step if found else 0
    return Offer(CONTINUE, step, f"{_NEW} {rate_when_longer(view, step)}", why_not)


def rate_when_longer(view: RunView, step: int) -> str:
    """Return what becomes of the learning rate when a run is continued, in plain words."""
    if view.plan.lr_scheduler_type in _STAYS:
        return "The learning rate stays where it is."
    return (
        "The learning rate is planned anew for the whole length: "
        f"at update {step:,} it goes up to where a run of that length has it, and falls from there."
    )


def _starting(view: RunView, folder: RunFolder) -> Offer:
    why_not = ""
    if not view.state.is_over:
        why_not = _GOES_ON
    elif not folder.has_adapter:
        why_not = "It has left no adapter."
    text = "A new run begins with what this one has learned; its counts and rate begin anew."
    return Offer(FROM_ADAPTER, 0, text, why_not)


def _longer(view: RunView, epochs: int | None, steps: int | None) -> dict[str, Any]:
    """Return the run's answers with a later end."""
    config = dict(view.config)
    limit = int(config.get("max_steps", -1))
    if epochs is not None and steps is not None:
        raise ConfigError(Problem("steps", "Epochs and updates are both given.", "Give one."))
    if steps is None and epochs is None:
        steps, epochs = (limit, None) if limit > 0 else (None, 1)
    if epochs is not None:
        if limit > 0:
            what = f"The run counts updates ({limit:,}), not epochs."
            raise ConfigError(Problem("epochs", what, "Say how many updates more: steps."))
        config["num_train_epochs"] = int(config.get("num_train_epochs", 1)) + epochs
    else:
        config["max_steps"] = (limit if limit > 0 else view.total_steps or view.step) + (steps or 0)
    return config


def _prints(record: Mapping[str, Any]) -> list[Any]:
    """Return what tells data apart: the fingerprint of every source."""
    found = [*source_entries(dict(record)), *source_entries(dict(record), "validation")]
    return [each.get("sha256") for each in found]
