"""The nested groups about hardware and logging."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from modelforge.config.schema.base import (
    ALL_CACHES,
    BOTH,
    SPEED,
    GroupName,
    SettingInfo,
    SettingsGroup,
)

TRACKERS = ("tensorboard", "trackio", "wandb", "mlflow", "aim")
# Environment variables whose address takes precedence over the run folder.
TRACKER_ADDRESSES = {"mlflow": "MLFLOW_TRACKING_URI", "aim": "AIM_REPO"}


def join_names(value: Any) -> Any:
    """Return a list of names as text with commas; other values unchanged."""
    is_list = isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)
    return ", ".join(value) if is_list else value


class Hardware(SettingsGroup):
    """Device and number format of training."""

    device: Annotated[
        Literal["auto", "cuda", "mps", "cpu"],
        SettingInfo(
            "Device",
            "The training device; auto uses a GPU when there is one.",
            group=GroupName.HARDWARE,
            affects=BOTH,
            irrelevant_for=("memory",),
        ),
    ] = "auto"
    gpu_index: Annotated[
        int,
        Field(ge=0, le=63),
        SettingInfo(
            "GPU index",
            "The GPU to use when there are several.",
            group=GroupName.HARDWARE,
            affects=SPEED,
            irrelevant_for=("memory",),
        ),
    ] = 0
    precision: Annotated[
        Literal["auto", "bf16", "fp16", "fp32"],
        SettingInfo(
            "Precision",
            "Number format of training; auto uses the best of this machine.",
            "Used when neither fp16 nor bf16 is set. Auto means bf16 from compute capability 8.0, "
            "fp16 on older GPUs, fp32 on the CPU and on Apple GPUs.",
            group=GroupName.PRECISION,
            affects=BOTH,
            irrelevant_for=("memory",),
        ),
    ] = "auto"
    max_gpu_temperature: Annotated[
        int | None,
        Field(ge=30, le=110),
        SettingInfo(
            "GPU temperature limit",
            "Training pauses between steps above this temperature; empty for no limit.",
            "It resumes 5 °C below the limit. Pauses are not counted in tokens/s or seconds per "
            "step, but the run takes longer than estimated.",
            unit="°C",
            group=GroupName.HARDWARE,
            irrelevant_for=("memory",),
        ),
    ] = None
    max_gpu_power: Annotated[
        int | None,
        Field(ge=20, le=2000),
        SettingInfo(
            "GPU power limit",
            "Training pauses between steps above this power draw; empty for no limit.",
            "It resumes after at least 3 seconds, once the GPU draws 5 % less than the limit. "
            "For a constant limit use nvidia-smi -pl instead.",
            unit="W",
            group=GroupName.HARDWARE,
            irrelevant_for=("memory",),
        ),
    ] = None


class Logging(SettingsGroup):
    """Name of the run, logging interval and experiment trackers."""

    run_name: Annotated[
        str | None,
        Field(max_length=80),
        SettingInfo(
            "Run name",
            "Name of the run in lists; empty generates one.",
            group=GroupName.LOGGING,
            irrelevant_for=ALL_CACHES,
        ),
    ] = None
    logging_steps: Annotated[
        int,
        Field(ge=1),
        SettingInfo(
            "Log every",
            "Steps between two logged points.",
            unit="steps",
            group=GroupName.LOGGING,
            irrelevant_for=ALL_CACHES,
        ),
    ] = 1
    report_to: Annotated[
        str,
        BeforeValidator(join_names),
        Field(max_length=200),
        SettingInfo(
            "Trackers",
            "Experiment trackers: tensorboard, trackio, wandb, mlflow, aim.",
            "Each is installed on demand, for instance with `python launch.py setup --with "
            "tensorboard`. They write to the run folder; nothing leaves this computer unless "
            "wandb is online or an address of MLflow or Aim is set in the environment.",
            group=GroupName.LOGGING,
            irrelevant_for=ALL_CACHES,
        ),
    ] = ""
    project: Annotated[
        str,
        Field(min_length=1, max_length=80),
        SettingInfo(
            "Project",
            "The project under which trackers list the run.",
            group=GroupName.LOGGING,
            irrelevant_for=ALL_CACHES,
        ),
    ] = "modelforge"
    wandb_mode: Annotated[
        Literal["offline", "online"],
        SettingInfo(
            "W&B mode",
            "offline keeps the metrics on this computer; online sends them to your account.",
            "The key is read from WANDB_API_KEY or from `wandb login`, and is never stored.",
            group=GroupName.LOGGING,
            irrelevant_for=ALL_CACHES,
        ),
    ] = "offline"
