"""The nested groups of settings: everything beyond the contract, each complete by default."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from modelforge.config.schema.base import SettingInfo

TRACKERS = ("tensorboard", "trackio", "wandb", "mlflow", "aim")
# An address that a person has set there goes before the run's folder.
TRACKER_ADDRESSES = {"mlflow": "MLFLOW_TRACKING_URI", "aim": "AIM_REPO"}


def join_names(said: Any) -> Any:
    """Return a list of names as the text with commas that it stands for."""
    listed = isinstance(said, (list, tuple)) and all(isinstance(one, str) for one in said)
    return ", ".join(said) if listed else said


class SettingsGroup(BaseModel):
    """Settings that belong together. Unknown keys are refused; numbers must be finite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=()
    )


class Hardware(SettingsGroup):
    """Where and in which number format training runs."""

    device: Annotated[
        Literal["auto", "cuda", "mps", "cpu"],
        SettingInfo(
            "Device",
            "Where to train; auto takes the GPU when there is one.",
            group="Hardware",
        ),
    ] = "auto"
    gpu_index: Annotated[
        int,
        Field(ge=0, le=63),
        SettingInfo("GPU number", "Which GPU to use when there are several.", group="Hardware"),
    ] = 0
    precision: Annotated[
        Literal["auto", "bf16", "fp16", "fp32"],
        SettingInfo(
            "Precision",
            "Number format while training; auto takes the best this machine has.",
            "Used when neither fp16 nor bf16 is set. Auto means bf16 from compute capability 8.0, "
            "fp16 on older cards, fp32 on the CPU and on Apple GPUs.",
            group="Precision",
        ),
    ] = "auto"
    max_gpu_temperature: Annotated[
        int | None,
        Field(ge=30, le=110),
        SettingInfo(
            "GPU temperature ceiling",
            "Above it training pauses between updates and goes on by itself; empty means none.",
            "It goes on 5 °C below the ceiling. Pauses count for neither tokens/s nor seconds per "
            "update, but the run takes longer than planned.",
            unit="°C",
            group="Hardware",
        ),
    ] = None
    max_gpu_power: Annotated[
        int | None,
        Field(ge=20, le=2000),
        SettingInfo(
            "GPU power ceiling",
            "Above it training pauses between updates and goes on by itself; empty means none.",
            "It goes on after at least 3 seconds, once the card draws 5 % less than the ceiling. "
            "A card that is to draw less all the time is better limited with nvidia-smi -pl.",
            unit="W",
            group="Hardware",
        ),
    ] = None


class Logging(SettingsGroup):
    """What is written down while training."""

    run_name: Annotated[
        str | None,
        Field(max_length=80),
        SettingInfo(
            "Name of the run", "How the run is listed; left empty, one is made.", group="Logging"
        ),
    ] = None
    logging_steps: Annotated[
        int,
        Field(ge=1),
        SettingInfo(
            "Log every",
            "Updates between two points of the curves.",
            unit="updates",
            group="Logging",
        ),
    ] = 1
    report_to: Annotated[
        str,
        BeforeValidator(join_names),
        Field(max_length=200),
        SettingInfo(
            "Trackers",
            "Programs that keep the curves too: tensorboard, trackio, wandb, mlflow, aim.",
            "Each is installed on demand, for instance with `python launch.py setup --with "
            "tensorboard`. They write into the run's folder; nothing leaves this computer unless "
            "wandb is online or an address of MLflow or Aim is set in the environment.",
            group="Logging",
        ),
    ] = ""
    project: Annotated[
        str,
        Field(min_length=1, max_length=80),
        SettingInfo("Project", "The project under which trackers list the run.", group="Logging"),
    ] = "modelforge"
    wandb_mode: Annotated[
        Literal["offline", "online"],
        SettingInfo(
            "W&B mode",
            "offline keeps the curves on this computer; online sends them to your account.",
            "The key is read from WANDB_API_KEY or from `wandb login`, and is never written down.",
            group="Logging",
        ),
    ] = "offline"
