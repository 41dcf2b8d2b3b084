"""Trackers: other programs that keep the curves, each in the run's folder, none able to end a run.

The integrations are transformers' own, and Aim's. They are called through `Careful`, not named in
`report_to`: there, one that fails would take the training with it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers.integrations as integrations
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from modelforge.config.rules.training import requested_trackers
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.runtime import TRACKER_ADDRESSES
from modelforge.runs.layout import RunFolder
from modelforge.train.event_log import EventLog

Made = Callable[[TrainingConfig, Path], TrainerCallback]


def attach(trainer: Any, config: TrainingConfig, run: RunFolder, log: EventLog, name: str) -> None:
    """Add the trackers that were asked for; one that cannot begin is told and left out."""
    asked = requested_trackers(config)
    if not asked:
        return
    args = trainer.args
    args.run_name, args.project = name, config.logging.project
    # Trackio would otherwise be asked for a page on the Hub.
    args.trackio_space_id, args.trackio_static_space_id = None, False
    for tracker in asked:
        folder = run.trackers / tracker
        try:
            folder.mkdir(parents=True, exist_ok=True)
            inner = _MADE[tracker](config, folder)
        except Exception as error:  # noqa: BLE001  # foreign code: whatever it raises, the run goes on
            _tell(log, tracker, error)
            continue
        trainer.add_callback(_careful(tracker, inner, log))


class SafeTracker(TrainerCallback):
    """Hands each event of a training on to a tracker until it fails; then it is told, once."""

    def __init__(self, name: str, inner: TrainerCallback, log: EventLog) -> None:
        self._name, self._inner, self._log = name, inner, log
        self._failed = False

    def on_train_begin(self, *told: Any, **more: Any) -> None:
        """Hand on that the training begins."""
        self._hand_on("on_train_begin", *told, **more)

    def on_train_end(self, *told: Any, **more: Any) -> None:
        """Hand on that the training is over."""
        self._hand_on("on_train_end", *told, **more)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Hand on what was measured; a copy, since some trackers change it."""
        self._hand_on("on_log", args, state, control, logs=dict(logs or {}), **more)

    def _hand_on(self, event: str, *told: Any, **more: Any) -> None:
        if self._failed:
            return
        try:
            getattr(self._inner, event)(*told, **more)
        except Exception as error:  # noqa: BLE001  # foreign code: whatever it raises, the run goes on
            self._failed = True
            _tell(self._log, self._name, error)


class Wandb(integrations.WandbCallback):
    """W&B, which otherwise ends what it has begun only when the process does."""

    def on_train_end(self, *told: Any, **more: Any) -> None:
        """Write down the rest."""
        super().on_train_end(*told, **more)
        self._wandb.finish()
        self._initialized = False


def _careful(name: str, inner: TrainerCallback, log: EventLog) -> SafeTracker:
    # The trainer takes no second callback of a class without a warning.
    return type(f"Careful{name.title()}", (SafeTracker,), {})(name, inner, log)


def _tell(log: EventLog, name: str, error: Exception) -> None:
    first = str(error).strip().split("\n", 1)[0][:200]
    what = f"The tracker {name} failed and is left out: {type(error).__name__}: {first}"
    log.note("tracker-failed", f"{what.rstrip('.: ')}. The training goes on.")


def _tensorboard(_config: TrainingConfig, folder: Path) -> TrainerCallback:
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # absent unless asked for

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
        # Neither the code, nor what is printed, nor this computer's name is anybody's business.
        "WANDB_CONSOLE": "off",
        "WANDB_HOST": "computer",
        "WANDB_DISABLE_CODE": "true",
        "WANDB_DISABLE_GIT": "true",
    }
    return Wandb()


def _mlflow(config: TrainingConfig, folder: Path) -> TrainerCallback:
    os.environ.setdefault(TRACKER_ADDRESSES["mlflow"], f"sqlite:///{folder / 'mlflow.db'}")
    os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", config.logging.project)
    os.environ["HF_MLFLOW_LOG_ARTIFACTS"] = "FALSE"
    return integrations.MLflowCallback()


def _aim(config: TrainingConfig, folder: Path) -> TrainerCallback:
    module = importlib.import_module("aim.hugging_face")
    repo = os.environ.get(TRACKER_ADDRESSES["aim"]) or str(folder)
    made: TrainerCallback = module.AimCallback(
        repo=repo,
        experiment=config.logging.project,
        log_system_params=False,
        capture_terminal_logs=False,
    )
    return made


_MADE: dict[str, Made] = {
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "aim": _aim,
}
