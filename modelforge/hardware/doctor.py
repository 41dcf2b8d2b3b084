"""The doctor: what is right and wrong with this machine, with a remedy per row. No torch here."""

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

from modelforge.hardware.machine import Machine, probe_machine
from modelforge.hardware.nvidia import Gpu
from modelforge.paths import PROJECT_ROOT, Home
from modelforge.setup.system_checks import CheckResult, check_browser, check_disk, check_python
from modelforge.setup.torch_build import BUILDS, INDEX, TORCH, cuda_build, parse_version

CONSTRAINTS = PROJECT_ROOT / "constraints.txt"
STARTER_FILES = ("config.json", "model.safetensors", "tokenizer.json")
MATMUL_TIMEOUT_S = 120.0
# CUDA 13 needs this driver everywhere; within a major version an older minor one will do.
LINUX_DRIVERS = {13: (580,), 12: (525, 60)}
SETUP = "Run `python launch.py setup`."
Probe = Callable[[Path], Machine]
Reach = Callable[[], bool]


def check_machine(
    home: Home, *, probe: Probe = probe_machine, is_reachable: Reach | None = None
) -> list[CheckResult]:
    """Return one row for everything that a run needs. Asks the network once, for two seconds."""
    machine = probe(home.root)
    cuda = torch_cuda_version()
    return [
        check_python(),
        torch_row(cuda, machine, installed_version("torch")),
        *gpu_rows(machine),
        *([matmul_row()] if cuda and machine.gpus else []),
        packages_row(read_pinned_versions(CONSTRAINTS)),
        starter_row(home),
        check_disk(home.root),
        check_browser(),
        network_row(is_reachable or is_hub_reachable),
    ]


def torch_row(cuda: str | None, machine: Machine, torch: str | None) -> CheckResult:
    """Say whether the build of torch suits driver and card. `cuda` is the build's CUDA version."""
    name = "PyTorch"
    if torch is None:
        return CheckResult(name, "bad", "torch is not installed.", SETUP)
    build = f"CUDA {cuda}" if cuda else "no CUDA"
    said = f"torch {torch} with {build}"
    if not machine.gpus:
        return CheckResult(name, "good", f"{said}; there is no NVIDIA card.")
    card = machine.gpus[0]
    suits = cuda_build(card.driver, card.compute_capability)
    remedy = _reinstall(suits) if suits else "Update the NVIDIA driver to 580 or newer."
    if not cuda:
        return CheckResult(name, "bad", f"{said}, so {card.name} is not used.", remedy)
    needed = LINUX_DRIVERS.get(parse_version(cuda)[0], ())
    if card.driver and parse_version(card.driver) < needed:
        wanted_driver = ".".join(map(str, needed))
        what = f"{said} needs driver {wanted_driver} or newer, and this is {card.driver}."
        return CheckResult(name, "bad", what, remedy)
    oldest = BUILDS["cu130"][1]
    too_old = card.compute_capability is not None and card.compute_capability < oldest
    if too_old and parse_version(cuda) >= (13,):
        return CheckResult(name, "bad", f"{said} has no kernels for {card.name}.", remedy)
    return CheckResult(name, "good", f"{said}, driver {card.driver or 'unknown'}.")


def gpu_rows(machine: Machine) -> list[CheckResult]:
    """Say what each card is and what it can do."""
    if not machine.gpus:
        if machine.apple_gpu:
            return [CheckResult("GPU", "good", "An Apple GPU, through Metal.")]
        return [CheckResult("GPU", "note", machine.gpu_note or "No GPU was found.")]
    return [_card_row(card) for card in machine.gpus]


def matmul_row(
    command: list[str] | None = None, timeout_s: float = MATMUL_TIMEOUT_S
) -> CheckResult:
    """Multiply 4-bit weights on the card, in a process of its own, and say how it went."""
    name = "4-bit matmul"
    call = command or [sys.executable, "-m", "modelforge.train.tools.check_4bit"]
    remedy = "Update the NVIDIA driver; until then switch `use_4bit` off."
    try:
        done = subprocess.run(call, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return CheckResult(name, "bad", f"It gave no answer within {timeout_s:.0f} s.", remedy)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        return CheckResult(name, "bad", f"{last[:200].rstrip('.')}.", remedy)
    answer = json.loads(lines[-1])
    what = f"It is off by {answer['off'] * 100:.1f}% on average, after {answer['seconds']:.1f} s."
    return CheckResult(name, "good" if answer["off"] < 0.2 else "bad", what)


def packages_row(pins: Mapping[str, str]) -> CheckResult:
    """Say which packages differ from the versions that were tested together."""
    name = "Packages"
    if not pins:
        return CheckResult(
            name, "good", "Installed from a wheel; no tested versions to compare with."
        )
    found = {package: installed_version(package) for package in pins}
    absent = [package for package in _required() if installed_version(package) is None]
    if absent:
        return CheckResult(name, "bad", f"Not installed: {', '.join(absent)}.", SETUP)
    differ = [
        f"{package} {has} (tested: {pins[package]})"
        for package, has in found.items()
        if has and has.partition("+")[0] != pins[package]
    ]
    if differ:
        more = f" and {len(differ) - 4} more" if len(differ) > 4 else ""
        return CheckResult(
            name, "note", f"Other than tested: {', '.join(differ[:4])}{more}.", SETUP
        )
    return CheckResult(name, "good", f"{sum(map(bool, found.values()))} packages as tested.")


def starter_row(home: Home) -> CheckResult:
    """Say whether the starter model is there."""
    if all((home.starter_model / name).is_file() for name in STARTER_FILES):
        return CheckResult("Starter model", "good", f"{home.starter_model}.")
    return CheckResult("Starter model", "bad", f"It is not in {home.starter_model}.", SETUP)


def network_row(reach: Reach) -> CheckResult:
    """Say whether models and data can come from the Hub."""
    works = "The starter model, local folders and files work without."
    switches = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    if set_ones := [name for name in switches if os.environ.get(name, "0") not in ("", "0")]:
        return CheckResult(
            "Network", "note", f"{set_ones[0]} is set: nothing is downloaded.", works
        )
    if reach():
        return CheckResult("Network", "good", "The Hub answers.")
    return CheckResult("Network", "note", "The Hub does not answer.", works)


def is_hub_reachable() -> bool:
    """Say whether the Hub can be reached at all."""
    try:
        socket.create_connection(("huggingface.co", 443), timeout=2).close()
    except OSError:
        return False
    return True


def torch_cuda_version() -> str | None:
    """Return the CUDA version torch was built for, read from its files; torch is not imported."""
    spec = importlib.util.find_spec("torch")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        try:
            text = (Path(folder) / "version.py").read_text(encoding="utf-8")
        except OSError:
            continue
        if found := re.search(r"^cuda\s*(?::[^=]+)?=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE):
            return found[1]
    return None


def installed_version(package: str) -> str | None:
    """Return the version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def read_pinned_versions(constraints: Path) -> dict[str, str]:
    """Return the tested versions; empty when they were not shipped."""
    if not constraints.is_file():
        return {}
    lines = constraints.read_text(encoding="utf-8").splitlines()
    pins = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {name.strip(): pin.strip() for name, pin in pins}


def _card_row(card: Gpu) -> CheckResult:
    name, can = f"GPU {card.index}", card.compute_capability
    size = f"{card.total_gib:.1f} GiB" if card.total_gib else "size unknown"
    if can is None:
        return CheckResult(name, "note", f"{card.name}, {size}, compute capability unknown.")
    formats = "bf16 and fp16" if can >= (8, 0) else "fp16, not bf16"
    said = f"{card.name}, {size}, compute capability {can[0]}.{can[1]}: {formats}."
    return CheckResult(name, "good" if can >= (7, 0) else "note", said)


def _required() -> list[str]:
    try:
        lines = metadata.requires("modelforge-app") or []
    except metadata.PackageNotFoundError:
        return []
    return [re.split(r"[^\w.-]", line)[0] for line in lines if "extra ==" not in line]


def _reinstall(build: str) -> str:
    arguments = f"{TORCH} --no-deps --index-url {INDEX}{build}"
    return f'Run `python launch.py setup --torch "{arguments}"`.'
