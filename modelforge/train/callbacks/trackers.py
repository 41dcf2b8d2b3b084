"""Experiment trackers, each with its files in the run folder. A failing tracker never ends a run.

Transformers' integrations, and Aim's, are called through `SafeTracker` instead of `report_to`, with
which an exception in a tracker would end the training.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers.integrations as integrations
from transformers import TrainerCallback

from modelforge.config.rules.training import requested_trackers
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.runtime import TRACKER_ADDRESSES, is_address
from modelforge.paths import expand_user
from modelforge.runs.layout import RunFolder
from modelforge.train.event_log import EventLog
from modelforge.train.trainer.private import finish_wandb_run

Factory = Callable[[TrainingConfig, Path], TrainerCallback]


def attach(trainer: Any, config: TrainingConfig, run: RunFolder, log: EventLog, name: str) -> None:
    """Add the configured trackers; one that cannot start is noted and skipped."""
    trackers = requested_trackers(config)
    if not trackers:
        return
    args = trainer.args
    args.run_name, args.project = name, config.logging.project
    # Otherwise Trackio creates a Space on the Hub.
    args.trackio_space_id, args.trackio_static_space_id = None, False
    for tracker in trackers:
        folder = run.trackers / tracker
        try:
            if tracker != "aim" or not config.logging.repo:
                folder.mkdir(parents=True, exist_ok=True)
            callback = _FACTORIES[tracker](config, folder)
        except Exception as error:  # noqa: BLE001  # foreign code must not end the run
            _note_failure(log, tracker, error)
            continue
        # The trainer warns about a second callback of the same class.
        kind = type(f"Safe{tracker.title()}", (SafeTracker,), {})
        trainer.add_callback(kind(tracker, callback, log))


class SafeTracker(TrainerCallback):
    """Forwards events to a tracker until it fails, which is noted once."""

    def __init__(self, name: str, tracker: TrainerCallback, log: EventLog) -> None:
        self._name, self._tracker, self._log = name, tracker, log
        self._failed = False

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Forward the beginning of the training."""
        self._forward("on_train_begin", *args, **kwargs)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Forward the end of the training."""
        self._forward("on_train_end", *args, **kwargs)

    def on_log(self, *args: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        """Forward metrics; a copy, since some trackers change it."""
        self._forward("on_log", *args, logs=dict(logs), **kwargs)

    def _forward(self, event: str, *args: Any, **kwargs: Any) -> None:
        if self._failed:
            return
        try:
            getattr(self._tracker, event)(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  # foreign code must not end the run
            self._failed = True
            _note_failure(self._log, self._name, error)


def named_aim_callback(base: type[Any]) -> type[Any]:
    """Return Aim's callback with the name of the run, which Aim's own leaves out."""

    class Aim(base):
        def on_train_begin(self, args: Any, *rest: Any, **kwargs: Any) -> None:
            """Begin the run of Aim, and name it."""
            super().on_train_begin(args, *rest, **kwargs)
            self.experiment.name = args.run_name

    return Aim


class Wandb(integrations.WandbCallback):
    """W&B callback that also finishes its run, which otherwise happens when the process ends."""

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Finish the W&B run."""
        super().on_train_end(*args, **kwargs)
        finish_wandb_run(self)


def _note_failure(log: EventLog, name: str, error: Exception) -> None:
    first = str(error).strip().split("\n", 1)[0][:200]
    what = f"The tracker {name} failed and is skipped: {type(error).__name__}: {first}"
    log.note("tracker-failed", f"{what.rstrip('.: ')}. Training continues.")


def _tensorboard(_config: TrainingConfig, folder: Path) -> TrainerCallback:
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # optional package

    return integrations.TensorBoardCallback(SummaryWriter(log_dir=str(folder)))


def _trackio(_config: TrainingConfig, folder: Path) -> TrainerCallback:
    # Read when trackio is imported, which happens in the constructor.
    os.environ["TRACKIO_DIR"] = str(folder)
    os.environ.pop("TRACKIO_SPACE_ID", None)
    return integrations.TrackioCallback()


def _wandb(config: TrainingConfig, folder: Path) -> TrainerCallback:
    os.environ |= {
        "WANDB_MODE": config.logging.wandb_mode,
        "WANDB_DIR": str(folder),
        "WANDB_PROJECT": config.logging.project,
        "WANDB_LOG_MODEL": "false",
        "WANDB_WATCH": "false",
        "WANDB_SILENT": "true",
        # Do not upload code, console output or the host name.
        "WANDB_CONSOLE": "off",
        "WANDB_HOST": "computer",
        "WANDB_DISABLE_CODE": "true",
        "WANDB_DISABLE_GIT": "true",
    }
    return Wandb()


def _mlflow(config: TrainingConfig, folder: Path) -> TrainerCallback:
    os.environ.setdefault(TRACKER_ADDRESSES["mlflow"], f"sqlite:///{folder / 'mlflow.db'}")
    if config.logging.experiment:
        os.environ["MLFLOW_EXPERIMENT_NAME"] = config.logging.experiment
    os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", config.logging.project)
    os.environ["HF_MLFLOW_LOG_ARTIFACTS"] = "FALSE"
    return integrations.MLflowCallback()


def _aim(config: TrainingConfig, folder: Path) -> TrainerCallback:
    module = importlib.import_module("aim.hugging_face")
    logging = config.logging
    repo = logging.repo and str(expand_user(logging.repo))
    if logging.repo and is_address(logging.repo):
        repo = logging.repo
    callback: TrainerCallback = named_aim_callback(module.AimCallback)(
        repo=repo or os.environ.get(TRACKER_ADDRESSES["aim"]) or str(folder),
        experiment=logging.experiment or logging.project,
        log_system_params=False,
        capture_terminal_logs=False,
    )
    return callback


_FACTORIES: dict[str, Factory] = {
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "aim": _aim,
}
