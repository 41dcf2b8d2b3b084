"""The extras: their names, where they can work, and how they are proved."""

from __future__ import annotations

import difflib
import platform
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from modelforge.setup.environment import normalize
from modelforge.setup.system_checks import GpuInfo, find_build_tools, missing_build_tools
from modelforge.setup.torch_build import choose_build, gpu_problem

PROJECT = "modelforge-app"
# Arguments of modelforge.train.tools.check_stack: what a worker imports of an extra.
PROOFS: dict[str, tuple[str, ...]] = {
    "unsloth": ("--provider", "unsloth"),
    "quantization": ("torchao.quantization",),
    "gguf": ("xllamacpp",),
    "lm-eval": ("lm_eval",),
    "privacy": ("opacus.accountants",),
    "deepspeed": ("deepspeed",),
    "mcp": ("mcp.server.mcpserver",),
    "sweep": ("optuna", "scipy"),
    "tensorboard": ("torch.utils.tensorboard",),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "aim": ("aim",),
    "trackers": ("torch.utils.tensorboard", "trackio", "wandb", "mlflow"),
    "dev": ("torchao.quantization", "xllamacpp"),
}
UNSLOTH_FROM = (7, 0)
# The newest Python for which aim has wheels.
AIM_PYTHON = (3, 12)


def read_extras(root: Path) -> dict[str, list[str]]:
    """Return the extras of a checkout with the packages that they name."""
    with (root / "pyproject.toml").open("rb") as file:
        extras: dict[str, list[str]] = tomllib.load(file)["project"]["optional-dependencies"]
    return extras


def named_packages(extra: str, extras: Mapping[str, list[str]]) -> set[str]:
    """Return the normalized names of the packages of an extra, and of the extras it names."""
    names: set[str] = set()
    for requirement in extras[extra]:
        name, _, rest = requirement.partition("[")
        if name == PROJECT:
            others = rest.partition("]")[0].split(",")
            names |= {name for other in others for name in named_packages(other.strip(), extras)}
        names.add(normalize(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]))
    return names


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint with the most similar known name, or with all of them."""
    known = sorted(known)
    similar = difflib.get_close_matches(name, known, 1)
    return f"Did you mean {similar[0]}?" if similar else f"Known: {', '.join(known)}."


def why_unavailable(extra: str, gpus: GpuInfo, cuda: str | None) -> str:
    """Return why an extra cannot work on this computer, in sentences; empty if it can.

    `cuda` is the CUDA version of the installed torch, empty without CUDA, None without torch.
    """
    if extra == "unsloth":
        return _why_no_unsloth(gpus, cuda)
    if extra == "aim" and platform.system() == "Windows":
        return "Aim does not support Windows. Use another tracker."
    if extra == "aim" and sys.version_info[:2] > AIM_PYTHON:
        return "Aim supports Python up to 3.12. Use another tracker."
    return ""


def _why_no_unsloth(gpus: GpuInfo, cuda: str | None) -> str:
    system, driver = platform.system(), gpus["driver_version"]
    if not driver or system == "Darwin":
        return "Unsloth needs an NVIDIA GPU, and none was found. Use the provider huggingface."
    capabilities = gpus["capabilities"]
    if capabilities and max(capabilities) < UNSLOTH_FROM:
        newest = ".".join(map(str, max(capabilities)))
        return f"Unsloth needs a GPU of compute capability 7.0; this one has {newest}."
    if cuda is None and not choose_build(system, driver, capabilities):
        return f"No build of PyTorch supports the driver {driver}. Update it to 580 or newer."
    named = [("the GPU", capability) for capability in capabilities or (None,)]
    problems = [gpu_problem(cuda, system, driver, named, index) for index in range(len(named))]
    if problem := next((problem for problem in problems if all(problems)), None):
        return " ".join(problem)
    return missing_build_tools(find_build_tools())
