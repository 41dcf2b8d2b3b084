"""Record versions, GPU, driver, compilers and missing packages."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sysconfig
import tomllib
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.gpu_steps.record import Record, run_step

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    *("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes"),
    *("torchao", "triton", "flash_attn", "unsloth", "numpy", "pydantic", "nvidia-ml-py", "pytest"),
)
# Needed by the page and the server, which the session does not start.
UNUSED = {"gradio", "fastapi", "uvicorn", "python-multipart"}


def main(record: Record) -> None:
    """Record all facts; one that cannot be read is recorded as an error."""
    record.measure("system", platform.platform)
    record.measure("packages", lambda: {name: version(name) for name in PACKAGES if version(name)})
    record.measure("missing packages", missing)
    record.measure("nvidia-smi", nvidia_smi)
    record.measure("compiler", lambda: shutil.which("gcc") or shutil.which("cc") or "none")
    record.measure("Python.h", python_header)
    record.measure("machine", machine)
    record.measure("torch", torch_build)


def version(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def missing() -> list[str]:
    """Return the required packages that are not installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = (re.split(r"[^\w.-]", line)[0] for line in project["dependencies"])
    return [name for name in names if name not in UNUSED and version(name) is None]


def nvidia_smi() -> str:
    """Return the first lines of nvidia-smi: driver, GPU, memory, processes."""
    done = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=10, check=False)
    return "\n".join(done.stdout.splitlines()[:30])


def python_header() -> bool:
    """Return whether Python.h exists, which Triton needs to compile."""
    return (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file()


def machine() -> dict[str, Any]:
    """Return this machine as ModelForge sees it."""
    from modelforge.hardware.machine import probe_machine

    return asdict(probe_machine(ROOT))


def torch_build() -> dict[str, Any]:
    """Return the build of torch and what it finds."""
    import torch

    facts: dict[str, Any] = {"cuda": torch.version.cuda, "found": torch.cuda.is_available()}
    if facts["found"]:
        facts |= {"architectures": torch.cuda.get_arch_list()}
        facts |= {"capability": torch.cuda.get_device_capability(0)}
    return facts


if __name__ == "__main__":
    run_step(main)
