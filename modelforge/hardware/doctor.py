"""Check this machine: one result with a remedy for everything that a run needs. Without torch."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from modelforge.config.profiles import profile_problems
from modelforge.hardware.machine import (
    Machine,
    gpu_problem,
    installed_version,
    probe_machine,
)
from modelforge.hardware.nvidia import Gpu
from modelforge.paths import PROJECT_ROOT, Home
from modelforge.setup.system_checks import (
    CheckResult,
    check_browser,
    check_disk,
    check_python,
    missing_build_tools,
)
from modelforge.units import human_gib

CONSTRAINTS = PROJECT_ROOT / "constraints.txt"
STARTER_FILES = ("config.json", "model.safetensors", "tokenizer.json")
STACK_TIMEOUT_S = 300.0
# Of the mean; TF32 and 4-bit weights are inexact.
MAX_ERROR, MAX_4BIT_ERROR = 0.01, 0.2
# Optional packages that a worker imports only for some settings.
OPTIONAL_MODULES = {
    "torchao": "torchao.quantization",
    "flash_attn": "flash_attn",
    "xllamacpp": "xllamacpp",
}
SETUP = "Run `python launch.py setup`."
Probe = Callable[[Path], Machine]
Reachability = Callable[[], bool]
StackCheck = Callable[[Machine], list[CheckResult]]


def check_machine(
    home: Home,
    *,
    probe: Probe = probe_machine,
    is_reachable: Reachability | None = None,
    stack: StackCheck | None = None,
) -> list[CheckResult]:
    """Return the results of all checks; tries to reach the Hub for at most two seconds."""
    machine = probe(home.root)
    return [
        check_python(),
        check_torch(machine, installed_version("torch")),
        *check_gpus(machine),
        *check_compiler(machine),
        *(stack or check_stack)(machine),
        check_packages(read_pinned_versions(CONSTRAINTS)),
        check_llama_cpp(installed_version("xllamacpp")),
        check_starter(home),
        *check_profiles(home),
        check_disk(home.root),
        check_browser(),
        check_network(is_reachable or is_hub_reachable),
    ]


def check_torch(machine: Machine, torch: str | None) -> CheckResult:
    """Check that the torch build suits the driver and each GPU."""
    name, cuda = "PyTorch", machine.torch_cuda
    if torch is None:
        return CheckResult(name, "bad", "torch is not installed.", rebuild())
    build = f"torch {torch} with {f'CUDA {cuda}' if cuda else 'no CUDA'}"
    if not machine.gpus:
        return CheckResult(name, "good", f"{build}; there is no NVIDIA GPU.")
    problems = list(filter(None, (gpu_problem(machine, gpu) for gpu in machine.gpus)))
    if problems:
        is_useless = len(problems) == len(machine.gpus)
        what = " ".join(dict.fromkeys(what for what, _ in problems))
        return CheckResult(name, "bad" if is_useless else "note", what, problems[0][1])
    return CheckResult(name, "good", f"{build}, driver {machine.gpus[0].driver or 'unknown'}.")


def check_gpus(machine: Machine) -> list[CheckResult]:
    """Return one result per GPU with its memory and number formats."""
    if machine.gpus:
        return [_check_gpu(gpu) for gpu in machine.gpus]
    if machine.apple_gpu:
        return [CheckResult("GPU", "good", "An Apple GPU, used through Metal.")]
    return [CheckResult("GPU", "note", machine.gpu_note or "No GPU was found.")]


def check_compiler(machine: Machine) -> list[CheckResult]:
    """Note what Unsloth and torch.compile need and is missing; empty without a GPU."""
    what = missing_build_tools(machine.packages) if machine.gpus else ""
    only = "Only Unsloth and torch.compile need it."
    return [CheckResult("Compiler", "note", what, only)] if what else []


def check_stack(
    machine: Machine, command: list[str] | None = None, timeout_s: float = STACK_TIMEOUT_S
) -> list[CheckResult]:
    """Import what a worker imports in a process of its own, and multiply on each device there."""
    command = command or [sys.executable, "-m", "modelforge.train.tools.check_stack"]
    modules = [module for name, module in OPTIONAL_MODULES.items() if name in machine.packages]
    optional = [part for module in modules for part in ("--optional", module)]
    result = _run_check("Training stack", [*command, *optional], timeout_s, rebuild())
    if isinstance(result, CheckResult):
        return [result]
    what = f"All packages of a worker were imported in {result['seconds']:.0f} s."
    rows = [_check_product(machine, device) for device in result["devices"]]
    if machine.gpus and not any(row["device"].startswith("cuda") for row in result["devices"]):
        what = "torch does not find the GPU, so it was not tested."
        rows = [CheckResult("Matmul", "bad", what, "Restart the computer, or update the driver.")]
    stack = CheckResult("Training stack", "good", what)
    remedy = "Uninstall it, or install the version for this torch."
    broken = [
        CheckResult(name.partition(".")[0], "bad", why, remedy)
        for name, why in result.get("broken", {}).items()
    ]
    return [stack, *rows, *broken, *_check_unsloth(machine, command, timeout_s)]


def check_profiles(home: Home) -> list[CheckResult]:
    """Note each problem of the user's own profiles."""
    return [
        CheckResult("Profile", "note", f"{problem.where}: {problem.what}", problem.remedy)
        for problem in profile_problems(home.profiles)
    ]


def check_packages(pins: Mapping[str, str]) -> CheckResult:
    """Check that all packages are installed, in the versions that were tested together."""
    name = "Packages"
    if not pins:
        return CheckResult(name, "good", "Installed from a wheel; there are no tested versions.")
    missing = [package for package in _required_packages() if installed_version(package) is None]
    if missing:
        return CheckResult(name, "bad", f"Not installed: {', '.join(missing)}.", rebuild())
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


def check_llama_cpp(version: str | None) -> CheckResult:
    """Check that llama.cpp, with which GGUF files are written, tested and served, is installed."""
    name = "GGUF"
    if version is None:
        what = "llama.cpp is not installed: GGUF files cannot be exported or served."
        return CheckResult(name, "note", what, "Run `python launch.py setup --with gguf`.")
    return CheckResult(name, "good", f"llama.cpp in xllamacpp {version}.")


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


def rebuild() -> str:
    """Return how to install all packages anew."""
    venv = PROJECT_ROOT / ".venv"
    if Path(sys.prefix).resolve() == venv.resolve():
        return f"Delete the folder {venv}, then run `python launch.py setup`."
    return "Install ModelForge again into a new environment."


def _check_product(machine: Machine, result: dict[str, Any]) -> CheckResult:
    """Judge the matrix products on one device."""
    device = result["device"]
    name = f"Matmul {device}"
    remedy = "Update the NVIDIA driver, or choose another device." if machine.gpus else rebuild()
    if error := result.get("error"):
        return CheckResult(name, "bad", error, remedy)
    off, off_4bit = result["matmul"], result.get("matmul_4bit")
    what = f"The error of a product is {off:.2%}"
    is_good = off < MAX_ERROR
    if off_4bit is not None:
        what += f", with 4-bit weights {off_4bit:.1%}"
        is_good = is_good and off_4bit < MAX_4BIT_ERROR
    return CheckResult(name, "good" if is_good else "bad", f"{what}.", "" if is_good else remedy)


def _check_unsloth(machine: Machine, command: list[str], timeout_s: float) -> list[CheckResult]:
    if not machine.gpus or "unsloth" not in machine.packages:
        return []
    remedy = "Run `python launch.py setup --with unsloth`, or use the provider huggingface."
    result = _run_check("Unsloth", [*command, "--provider", "unsloth"], timeout_s, remedy)
    if isinstance(result, CheckResult):
        return [result]
    return [CheckResult("Unsloth", "good", f"Imported in {result['seconds']:.0f} s.")]


def _run_check(
    name: str, command: list[str], timeout_s: float, remedy: str
) -> dict[str, Any] | CheckResult:
    """Return what a check printed as JSON, or a bad result."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return CheckResult(name, "bad", f"It did not finish within {timeout_s:.0f} s.", remedy)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["It ended without output"])[-1]
        return CheckResult(name, "bad", f"{last[:300].rstrip('.')}.", remedy)
    result: dict[str, Any] = json.loads(lines[-1])
    return result
