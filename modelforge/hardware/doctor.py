"""Check this machine: one result with a remedy for everything that a run needs. Without torch."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

from modelforge.hardware.machine import Machine, installed_version, probe_machine
from modelforge.hardware.nvidia import Gpu
from modelforge.paths import PROJECT_ROOT, Home
from modelforge.setup.system_checks import CheckResult, check_browser, check_disk, check_python
from modelforge.setup.torch_build import BUILDS, INDEX, TORCH, cuda_build, parse_version
from modelforge.units import human_gib

CONSTRAINTS = PROJECT_ROOT / "constraints.txt"
STARTER_FILES = ("config.json", "model.safetensors", "tokenizer.json")
MATMUL_TIMEOUT_S = 120.0
MAX_MATMUL_ERROR = 0.2
# The oldest Linux driver for each CUDA version; drivers of the same major version are compatible.
LINUX_DRIVERS = {13: (580,), 12: (525, 60)}
SETUP = "Run `python launch.py setup`."
Probe = Callable[[Path], Machine]
Reachability = Callable[[], bool]


def check_machine(
    home: Home, *, probe: Probe = probe_machine, is_reachable: Reachability | None = None
) -> list[CheckResult]:
    """Return the results of all checks; tries to reach the Hub for at most two seconds."""
    machine = probe(home.root)
    cuda = torch_cuda_version()
    return [
        check_python(),
        check_torch(cuda, machine, installed_version("torch")),
        *check_gpus(machine),
        *([check_4bit_matmul()] if cuda and machine.gpus else []),
        check_packages(read_pinned_versions(CONSTRAINTS)),
        check_starter(home),
        check_disk(home.root),
        check_browser(),
        check_network(is_reachable or is_hub_reachable),
    ]


def check_torch(cuda: str | None, machine: Machine, torch: str | None) -> CheckResult:
    """Check that the torch build, for CUDA version `cuda` or none, suits driver and GPU."""
    name = "PyTorch"
    if torch is None:
        return CheckResult(name, "bad", "torch is not installed.", SETUP)
    build = f"torch {torch} with {f'CUDA {cuda}' if cuda else 'no CUDA'}"
    if not machine.gpus:
        return CheckResult(name, "good", f"{build}; there is no NVIDIA GPU.")
    gpu = machine.gpus[0]
    suitable = cuda_build(gpu.driver, gpu.compute_capability)
    remedy = _reinstall(suitable) if suitable else "Update the NVIDIA driver to 580 or newer."
    if not cuda:
        return CheckResult(name, "bad", f"{build}, so {gpu.name} is not used.", remedy)
    needed = LINUX_DRIVERS.get(parse_version(cuda)[0], ())
    if gpu.driver and parse_version(gpu.driver) < needed:
        minimum = ".".join(map(str, needed))
        what = f"{build} needs driver {minimum} or newer; the installed driver is {gpu.driver}."
        return CheckResult(name, "bad", what, remedy)
    oldest = BUILDS["cu130"][1]
    is_too_old = gpu.compute_capability is not None and gpu.compute_capability < oldest
    if is_too_old and parse_version(cuda) >= (13,):
        return CheckResult(name, "bad", f"{build} has no kernels for {gpu.name}.", remedy)
    return CheckResult(name, "good", f"{build}, driver {gpu.driver or 'unknown'}.")


def check_gpus(machine: Machine) -> list[CheckResult]:
    """Return one result per GPU with its memory and number formats."""
    if machine.gpus:
        return [_check_gpu(gpu) for gpu in machine.gpus]
    if machine.apple_gpu:
        return [CheckResult("GPU", "good", "An Apple GPU, used through Metal.")]
    return [CheckResult("GPU", "note", machine.gpu_note or "No GPU was found.")]


def check_4bit_matmul(
    command: list[str] | None = None, timeout_s: float = MATMUL_TIMEOUT_S
) -> CheckResult:
    """Multiply 4-bit weights on the GPU in a process of its own, and check the error."""
    name = "4-bit matmul"
    command = command or [sys.executable, "-m", "modelforge.train.tools.check_4bit"]
    remedy = "Update the NVIDIA driver; until then set `use_4bit` to false."
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return CheckResult(name, "bad", f"It did not finish within {timeout_s:.0f} s.", remedy)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["it ended without output"])[-1]
        return CheckResult(name, "bad", f"{last[:200].rstrip('.')}.", remedy)
    result = json.loads(lines[-1])
    what = f"The mean error is {result['off']:.1%}, after {result['seconds']:.1f} s."
    return CheckResult(name, "good" if result["off"] < MAX_MATMUL_ERROR else "bad", what)


def check_packages(pins: Mapping[str, str]) -> CheckResult:
    """Check that all packages are installed, in the versions that were tested together."""
    name = "Packages"
    if not pins:
        return CheckResult(name, "good", "Installed from a wheel; there are no tested versions.")
    missing = [package for package in _required_packages() if installed_version(package) is None]
    if missing:
        return CheckResult(name, "bad", f"Not installed: {', '.join(missing)}.", SETUP)
    versions = {package: installed_version(package) for package in pins}
    different = [
        f"{package} {version} (tested: {pins[package]})"
        for package, version in versions.items()
        if version and version.partition("+")[0] != pins[package]
    ]
    if different:
        more = f" and {len(different) - 4} more" if len(different) > 4 else ""
        what = f"Different from the tested versions: {', '.join(different[:4])}{more}."
        return CheckResult(name, "note", what, SETUP)
    count = sum(version is not None for version in versions.values())
    return CheckResult(name, "good", f"{count} packages in the tested versions.")


def check_starter(home: Home) -> CheckResult:
    """Check that the starter model has been set up."""
    folder = home.starter_model
    if all((folder / name).is_file() for name in STARTER_FILES):
        return CheckResult("Starter model", "good", f"{folder}.")
    return CheckResult("Starter model", "bad", f"It is not in {folder}.", SETUP)


def check_network(is_reachable: Reachability) -> CheckResult:
    """Check that models and datasets can be downloaded from the Hub."""
    remedy = "The starter model, local folders and files work offline."
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(variable, "0") not in ("", "0"):
            what = f"{variable} is set: nothing is downloaded."
            return CheckResult("Network", "note", what, remedy)
    if is_reachable():
        return CheckResult("Network", "good", "The Hub can be reached.")
    return CheckResult("Network", "note", "The Hub cannot be reached.", remedy)


def is_hub_reachable() -> bool:
    """Return whether a connection to the Hub can be opened within two seconds."""
    try:
        socket.create_connection(("huggingface.co", 443), timeout=2).close()
    except OSError:
        return False
    return True


def torch_cuda_version() -> str | None:
    """Return the CUDA version of the torch build, read from its files without importing it."""
    spec = importlib.util.find_spec("torch")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        try:
            text = (Path(folder) / "version.py").read_text(encoding="utf-8")
        except OSError:
            continue
        version = re.search(r"^cuda\s*(?::[^=]+)?=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
        if version is not None:
            return version[1]
    return None


def read_pinned_versions(constraints: Path) -> dict[str, str]:
    """Return the tested version of each package; empty if the file does not exist."""
    if not constraints.is_file():
        return {}
    lines = constraints.read_text(encoding="utf-8").splitlines()
    pins = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {name.strip(): version.strip() for name, version in pins}


def _check_gpu(gpu: Gpu) -> CheckResult:
    name, capability = f"GPU {gpu.index}", gpu.compute_capability
    memory = human_gib(gpu.total_gib) if gpu.total_gib else "unknown memory"
    if capability is None:
        what = f"{gpu.name}, {memory}, compute capability unknown."
        return CheckResult(name, "note", what)
    formats = "bf16 and fp16" if capability >= (8, 0) else "fp16, not bf16"
    version = f"{capability[0]}.{capability[1]}"
    what = f"{gpu.name}, {memory}, compute capability {version}: {formats}."
    return CheckResult(name, "good" if capability >= (7, 0) else "note", what)


def _required_packages() -> list[str]:
    try:
        lines = metadata.requires("modelforge-app") or []
    except metadata.PackageNotFoundError:
        return []
    return [re.split(r"[^\w.-]", line)[0] for line in lines if "extra ==" not in line]


def _reinstall(build: str) -> str:
    arguments = f"{TORCH} --no-deps --index-url {INDEX}{build}"
    return f'Run `python launch.py setup --torch "{arguments}"`.'
