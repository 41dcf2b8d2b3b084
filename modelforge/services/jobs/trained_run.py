"""The trained run that a job reads: its model, its base model on this computer, and a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.errors import BusyError, ConfigError, ForgeError, NotFoundError, Problem
from modelforge.hardware.machine import Machine
from modelforge.models.architecture import ModelInfo
from modelforge.models.fingerprint import fingerprint
from modelforge.models.resolve import STARTER, model_stamp, resolve_model
from modelforge.paths import Home
from modelforge.runs.layout import RunFolder
from modelforge.runs.notes import run_name, short_model_name
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.store import Store

# On a GPU, the largest layer is converted to float32 beside the weights.
GPU_SPARE_GIB = 2.0


@dataclass(frozen=True)
class BaseModel:
    """A base model on this computer. `hash` is that of its files if it is not from the Hub."""

    name: str
    revision: str | None
    folder: Path
    hash: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        """What is equal for two runs on the same base model."""
        return (self.name, self.revision) if self.revision else ("", self.hash)


class TrainedRunFinder:
    """Finds the model of a run and the base model that it was trained on.

    `verb` is what is done with the run, in messages.
    """

    def __init__(self, home: Home, store: Store, supervisor: Supervisor, *, verb: str) -> None:
        self.home = home
        self.store = store
        self._supervisor = supervisor
        self._verb = verb
        self._models: dict[str, tuple[object, ModelInfo]] = {}

    def run_with_result(self, run_id: str) -> RunFolder:
        """Return a run that has a result and is not in progress."""
        if not self.store.exists(run_id) and (self.home.runs / ".deleted" / run_id).is_dir():
            what = f"The run {run_id} was deleted."
            remedy = f"Restore it first: modelforge runs restore {run_id}"
            raise NotFoundError(Problem("run", what, remedy))
        run = self.store.get(run_id)
        state = self._supervisor.state(run)
        if state.is_active:
            what = f"“{run_name(run)}” is in progress."
            remedy = f"{self._verb.capitalize()} it when it is over."
            raise BusyError(Problem("run", what, remedy), run.id)
        if not run.has_result:
            what = f"“{run_name(run)}” has no model: it is {state}."
            raise NotFoundError(Problem("run", what, "Choose a run that has finished."))
        return run

    def base(self, record: dict[str, Any], plan: Plan) -> BaseModel:
        """Return the base model of a run; raises if it is gone, or another one than then."""
        name = str(record["config"].get("model_name", "")).strip()
        if plan.model_revision:
            return _hub_base(name, plan.model_revision)
        folder = self.home.starter_model if name == STARTER else Path(plan.model_path)
        shown = base_name(record, plan)
        if not (folder / "config.json").is_file():
            what = f"The base model {shown} is not at {folder} any more."
            done = f"{self._verb.removesuffix('e')}ed"
            remedy = f"Put the folder back. Without its base model, an adapter cannot be {done}."
            if name == STARTER:
                remedy = "Run `python launch.py setup`, which makes it again."
            raise NotFoundError(Problem("base model", what, remedy))
        known, now = (record.get("base") or {}).get("hash"), fingerprint(folder)
        if known and known != now:
            what = f"The base model {shown} in {folder} is not the one of the training any more."
            remedy = "Put its files of that time back, or train again."
            raise ConfigError(Problem("base model", what, remedy))
        return BaseModel(shown, None, folder, now)

    def model(self, folder: str) -> ModelInfo:
        """Return what is known of a model; its files are read again once they have changed."""
        stamp = model_stamp(folder, self.home)
        known = self._models.get(folder)
        if known is None or known[0] != stamp:
            known = self._models[folder] = stamp, resolve_model(folder, self.home)
        return known[1]


def gpu_with(weights_gib: float, machine: Machine) -> int | None:
    """Return the GPU with the most free memory if it has enough; None without one."""
    free = {gpu.index: gpu.free_gib or 0.0 for gpu in machine.gpus}
    best = max(free, key=free.__getitem__, default=None)
    return best if best is not None and free[best] >= weights_gib + GPU_SPARE_GIB else None


def collect_error(errors: list[ForgeError], find: Callable[[], Any]) -> Any:
    """Return what `find` returns; None, with the error in `errors`, if it raises one."""
    try:
        return find()
    except ForgeError as error:
        errors.append(error)
        return None


def base_name(record: dict[str, Any], plan: Plan) -> str:
    """Return the Hub id of a run's base model, or the name of a local one."""
    name = str(record["config"].get("model_name", "")).strip() or plan.model_path
    if plan.model_revision:
        return name
    return short_model_name(name)


def _hub_base(name: str, revision: str) -> BaseModel:
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - importing httpx

    from modelforge.models import hub  # noqa: PLC0415 - importing httpx takes 0.2 s

    path = try_to_load_from_cache(name, "config.json", revision=revision)
    folder = Path(path).parent if isinstance(path, str) else None
    if folder is not None:
        files = {entry.name: entry.stat().st_size for entry in folder.iterdir() if entry.is_file()}
        if hub.is_complete(folder, files):
            return BaseModel(name, revision, folder)
    other = hub.cached_folder(name)
    if other is not None and other.name != revision:
        what = f"The base model {name} is here as {other.name[:7]}; the run used {revision[:7]}."
        remedy = f"Download that one: hf download {name} --revision {revision}"
        raise ConfigError(Problem("base model", what, remedy))
    what = f"The base model {name} is not on this computer."
    remedy = f"Download it: modelforge storage download {name}"
    raise NotFoundError(
        Problem("base model", what, f"{remedy} (a gated model needs `hf auth login` first)")
    )
