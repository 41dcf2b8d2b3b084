"""Responses about the server, the machine and what comes with ModelForge."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from modelforge.api.schemas.errors import about
from modelforge.hardware.nvidia import Gpu

Gib = Annotated[float | None, Field(description="In GiB; null if unknown.")]


class Health(BaseModel):
    """The server is running."""

    status: Literal["ok"]
    version: str = about("The version of ModelForge.")
    active: str | None = about("The id of the run that uses the machine, or null.")
    warm: bool = about("Whether a warm worker is ready for the next run.")


class MachineInfo(BaseModel):
    """Hardware and software of this computer; null where a value could not be determined."""

    system: str
    python: str
    cpu: str
    cores: int | None
    ram_total_gib: Gib
    ram_free_gib: Gib
    disk_free_gib: Gib
    disk_total_gib: Gib
    gpus: list[Gpu] = about("The visible NVIDIA GPUs.")
    gpu_note: str = about("Why no GPU is available; empty if one is.")
    apple_gpu: bool
    device: Literal["cuda", "mps", "cpu"] = about("The device that runs use by default.")
    practice: bool = about("True without a CUDA GPU: small models in full precision.")
    profile: str = about("The profile that suits this machine.")
    reason: str = about("Why this profile was chosen.")
    packages: list[str] = about("Installed optional packages that some settings need.")
    cpu_flags: list[str] = about("CPU instructions that accelerate bf16.")
    torch_cuda: str | None = about(
        "The CUDA version of the installed torch, empty without CUDA; null if unknown."
    )


class ProfileInfo(BaseModel):
    """A hardware profile."""

    name: str
    title: str
    description: str
    min_vram_gib: float
    min_ram_gib: float
    answers: dict[str, Any] = about("The initial settings of the form.")
    models: list[dict[str, Any]] = about("The recommended models.")
    practice: dict[str, Any] = about("Settings that differ from `answers` without a CUDA GPU.")
