"""Runs as fine-tuning jobs: their state, their values, events and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from modelforge.api.fine_tuning.files import RESULT_PREFIX, id_of_path
from modelforge.api.fine_tuning.requests import JOB_PREFIX, STRATEGIES
from modelforge.config.defaults import default_learning_rate
from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.forge import Forge
from modelforge.runs.atomic_files import find_json
from modelforge.runs.checkpoints import valid_checkpoints
from modelforge.runs.events import EventRecord, iter_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.progress.downsample import Point
from modelforge.runs.progress.metrics import RunMetrics
from modelforge.runs.states import RunState
from modelforge.runs.view import RunView
from modelforge.services.queue import QueuedRun

Part = dict[str, Any]
STATUS = {
    RunState.STARTING: "running",
    RunState.RUNNING: "running",
    RunState.STOPPING: "running",
    RunState.FINISHED: "succeeded",
    RunState.FAILED: "failed",
    RunState.LOST: "failed",
}
PAUSED, CANCELLED, QUEUED = "paused", "cancelled", "queued"
# OpenAI's name of a metric → the kind of our event.
LOSSES = {"step": "train_loss", "eval": "valid_loss"}


class JobViews:
    """Reads runs as jobs. The queue is read once for all of them."""

    def __init__(self, forge: Forge) -> None:
        self._forge = forge
        self._queued = {each.run: each for each in forge.queue.view().runs}

    def job(self, run_id: str) -> Part:
        """Return a run as a job; raises NotFoundError."""
        view, folder = self._forge.runs.view(run_id), self._forge.runs.folder(run_id)
        queued = self._queued.get(run_id)
        status, is_over = self._status(view, folder), view.state.is_over and queued is None
        config = TrainingConfig.from_record(view.config)
        method, numbers = _method(config), hyperparameters(config, view.plan)
        left = view.time_left()
        validation = config.data.validation_sources
        return {
            "id": f"{JOB_PREFIX}{run_id}",
            "object": "fine_tuning.job",
            "created_at": int(view.created),
            "error": self._error(view, queued),
            "estimated_finish": None if left is None else int(view.updated + left),
            "finished_at": int(view.updated) if is_over else None,
            # The id of a run is what `modelforge serve` takes and its server answers to.
            "fine_tuned_model": run_id if is_over and folder.has_result else None,
            "hyperparameters": numbers,
            "method": {"type": method, method: {"hyperparameters": numbers}},
            "metadata": metadata_of(folder),
            "model": config.model_name,
            "organization_id": "modelforge",
            "result_files": [f"{RESULT_PREFIX}{run_id}"] if is_over and view.step else [],
            "seed": config.trainer.seed,
            "status": status,
            "trained_tokens": _tokens(folder) if is_over else None,
            "training_file": id_of_path(config.sources()[0].path),
            "validation_file": id_of_path(validation[0].path) if validation else None,
            "integrations": [],
        }

    def _status(self, view: RunView, folder: RunFolder) -> str:
        queued = self._queued.get(view.id)
        if queued is not None:
            return PAUSED if queued.held else QUEUED
        if view.state is RunState.STOPPED:
            return PAUSED if is_kept(view, folder) else CANCELLED
        return STATUS.get(view.state, QUEUED)

    def _error(self, view: RunView, queued: QueuedRun | None) -> Part | None:
        if queued is not None and queued.why_held:
            return {"code": "held", "message": queued.why_held, "param": None}
        cause = self._forge.diagnosis.cause(view.id)
        if cause is None or queued is not None:
            return None
        message = f"{cause.what} {cause.remedy}".strip()
        return {"code": cause.code, "message": message, "param": None}


def metadata_of(folder: RunFolder) -> Mapping[str, str]:
    """Return the metadata that a client has given to a job."""
    metadata = (find_json(folder.config) or {}).get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def is_kept(view: RunView, folder: RunFolder) -> bool:
    """Return whether a stopped run was stopped to be resumed, as by `pause`."""
    try:
        is_stopped = view.state is RunState.STOPPED and view.launched is not None
        return is_stopped and folder.stop.read_text("utf-8") == "keep"
    except OSError:
        return False


def job_events(folder: RunFolder, created: float) -> list[Part]:
    """Return the events of a job that its clients know, the newest first."""
    first = _event(folder.id, 0, created, "The job was created.")
    phase, events = "", [first]
    for record in iter_events(folder.events):
        if record.kind == "phase":
            if record.data.get("name") == phase:
                continue
            phase = str(record.data.get("name"))
        if described := _described(record):
            events.append(_event(folder.id, record.n, record.t, *described))
    return events[::-1]


def job_checkpoints(folder: RunFolder, metrics: RunMetrics) -> list[Part]:
    """Return the intact checkpoints of a job, the newest first."""
    return [
        {
            "id": f"ftckpt-{folder.id}-{each.stage or 0}-{each.step}",
            "object": "fine_tuning.job.checkpoint",
            "created_at": int(each.path.stat().st_mtime),
            "fine_tuned_model_checkpoint": f"{folder.id}:{each.step}",
            "fine_tuning_job_id": f"{JOB_PREFIX}{folder.id}",
            "metrics": _metrics_at(metrics, each.stage, each.step),
            "step_number": each.step,
        }
        for each in valid_checkpoints(folder)
    ]


def _method(config: TrainingConfig) -> str:
    names = (name for name, strategy in STRATEGIES.items() if strategy == config.strategy)
    return next(names, "supervised")


def hyperparameters(config: TrainingConfig, plan: Plan) -> Part:
    """Return the values that a plan gives to the hyperparameters, also where they are auto."""
    practice = plan.device != "cuda"
    rows = config.per_device_train_batch_size * plan.gradient_accumulation_steps
    if config.strategy == "rlhf":
        rows = max(1, rows // config.trainer.num_generations)
    adapter = plan.trains == "adapter"
    usual = default_learning_rate(config.strategy, practice=practice, adapter=adapter)
    rate = config.learning_rate if plan.learning_rate is None else plan.learning_rate
    epochs = config.num_train_epochs if plan.epochs is None else round(plan.epochs, 2)
    numbers: Part = {
        "n_epochs": int(epochs) if epochs == int(epochs) else epochs,
        "batch_size": rows,
        "learning_rate_multiplier": round(rate / usual, 6),
    }
    if config.strategy == "dpo":
        numbers["beta"] = config.trainer.preference_beta
    return numbers


def _tokens(folder: RunFolder) -> int | None:
    """Return how many tokens the steps of a run have read; None where they are not counted."""
    steps = (record.data for record in iter_events(folder.events) if record.kind == "step")
    return sum(int(data.get("tokens") or 0) for data in steps) or None


def _event(
    run_id: str, n: int, t: float, message: str, level: str = "info", data: Part | None = None
) -> Part:
    return {
        "id": f"ftevent-{run_id}-{n}",
        "object": "fine_tuning.job.event",
        "created_at": int(t),
        "level": level,
        "message": message,
        "data": data or {},
        "type": "message" if data is None else "metrics",
    }


def _described(record: EventRecord) -> tuple[str, str, Part | None] | None:
    """Return message, level and metrics of an event; None for one that clients do not know."""
    describe = _DESCRIPTIONS.get(record.kind)
    return describe(record.data) if describe else None


def _measured(kind: str, data: Part) -> tuple[str, str, Part | None]:
    step, total, loss = data["step"], data.get("total_steps"), data.get("loss")
    name = LOSSES[kind]
    of_all = f"/{total}" if total else ""
    values = {"step": step, "total_steps": total, name: loss, **(data.get("metrics") or {})}
    shown = "" if loss is None else f": {name.replace('_', ' ')}={loss:.4f}"
    return f"Step {step}{of_all}{shown}", "info", values


def _text(message: str, level: str = "info") -> Callable[[Part], tuple[str, str, None]]:
    return lambda data: (message.format_map(_Values(data)), level, None)


class _Values(dict[str, Any]):
    """Values of an event; an absent one is empty."""

    def __missing__(self, _name: str) -> str:
        return ""


_DESCRIPTIONS: dict[str, Callable[[Part], tuple[str, str, Part | None]]] = {
    "started": _text("The job has started."),
    "resumed": _text("The job continues from step {step}."),
    "phase": _text("{text}."),
    "plan": _text("{total_steps} steps on {train_rows} rows, {eval_rows} for evaluation."),
    "step": lambda data: _measured("step", data),
    "eval": lambda data: _measured("eval", data),
    "saved": _text("The checkpoint of step {step} was saved."),
    "adjusted": _text("{why}", "warn"),
    "note": _text("{text}", "warn"),
    "finished": _text("The job has finished; the new model was created."),
    "stopped": _text("The job was stopped at step {step}."),
    "failed": _text("{what} {remedy}", "error"),
}


def _metrics_at(metrics: RunMetrics, stage: int | None, step: int) -> Part:
    """Return the newest losses of a stage up to a step."""
    chosen = next((each for each in metrics.stages if each.number == (stage or each.number)), None)
    values: Part = {"step": step}
    if chosen is not None:
        values["train_loss"] = _newest(chosen.train.get("loss", ()), step)
        values["full_valid_loss"] = _newest(chosen.eval.get("loss", ()), step)
    return {name: value for name, value in values.items() if value is not None}


def _newest(points: Iterable[Point], step: int) -> float | None:
    return next((value for at, value in reversed(list(points)) if at <= step), None)
