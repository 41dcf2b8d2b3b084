"""Runs on the machines that users have, planned and checked: NVML, system and torch are played."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.plan.make import make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Finding
from modelforge.hardware import machine as hardware
from modelforge.hardware.nvidia import NvmlClient
from modelforge.models.architecture import ModelInfo
from modelforge.paths import Home
from modelforge.preflight.checks.run import run_checks
from modelforge.preflight.context import RunContext, build_plan_context
from modelforge.preflight.suggest.fit import search_fit
from modelforge.setup.torch_build import CHOOSE_BUILD, choose_build, torch_arguments
from tests.hardware.test_machine import Card, Driver
from tests.preflight.contexts import ROWS, STARTER

GIB = 2**30
WSL, WINDOWS, LINUX = "Linux 6.6.87.2-microsoft-standard-WSL2 (WSL)", "Windows 11", "Linux 6.8.0-45"


@dataclass(frozen=True)
class Planned:
    """A machine and what a run on it must come to.

    Attributes:
        cards: Name, memory in GiB and compute capability of each GPU.
        torch: CUDA version of the installed torch, empty without CUDA.
        build: The torch build that set-up chooses, None for that of PyPI.
        precision, optim, attention: Of the plan, for an adapter with the default settings.
        settings: Settings of the run beyond the required ones.
        blockers: Codes of the findings that block the run.
        cautions: Codes of the cautions about the machine.
    """

    cards: tuple[tuple[str, float, tuple[int, int]], ...]
    system: str = LINUX
    driver: str = "580.65.06"
    torch: str = "13.0"
    build: str | None = "cu130"
    precision: str = "bf16"
    optim: str = "adamw_torch_fused"
    attention: str = "sdpa"
    settings: dict[str, Any] = field(default_factory=dict)
    blockers: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()


RTX_3060 = ("NVIDIA GeForce RTX 3060", 12.0, (8, 6))
GTX_1660 = ("NVIDIA GeForce GTX 1660 SUPER", 6.0, (7, 5))
RTX_4090 = ("NVIDIA GeForce RTX 4090", 24.0, (8, 9))
RTX_5090 = ("NVIDIA GeForce RTX 5090", 32.0, (12, 0))
GTX_1080 = ("NVIDIA GeForce GTX 1080", 8.0, (6, 1))
TESLA_P4 = ("Tesla P4", 8.0, (6, 1))
LAPTOP_4060 = ("NVIDIA GeForce RTX 4060 Laptop GPU", 8.0, (8, 9))
GTX_780 = ("NVIDIA GeForce GTX 780", 3.0, (3, 5))
FULL = {"adapter": {"enabled": False}}
PAGED = {"optim": "paged_adamw_32bit"}
FLASH = {"model": {"attn_implementation": "flash_attention_2"}}
SECOND = {"hardware": {"gpu_index": 1}}

MACHINES = {
    "3060": Planned((RTX_3060,)),
    "3060 full": Planned((RTX_3060,), optim="paged_adamw_32bit", settings=FULL),
    "3060 flash without the package": Planned((RTX_3060,), settings=FLASH),
    "1660": Planned((GTX_1660,), precision="fp16"),
    "1660 bf16": Planned((GTX_1660,), settings={"bf16": True}, blockers=("bf16-card",)),
    "4090 Windows": Planned((RTX_4090,), WINDOWS),
    "4090 Windows full": Planned((RTX_4090,), WINDOWS, settings=FULL),
    "4090 Windows paged": Planned(
        (RTX_4090,), WINDOWS, optim="paged_adamw_32bit", settings=PAGED,
        cautions=("paging-unsupported",),
    ),
    "4090 Windows, driver after set-up": Planned(
        (RTX_4090,), WINDOWS, torch="", blockers=("torch-unsuited",)
    ),
    "5090": Planned((RTX_5090,)),
    "5090 with cu126": Planned((RTX_5090,), torch="12.6", blockers=("torch-unsuited",)),
    "two, the old one first": Planned(
        (TESLA_P4, RTX_3060), build="cu126", precision="fp16", blockers=("torch-unsuited",)
    ),
    "two, the second chosen": Planned((TESLA_P4, RTX_3060), build="cu126", settings=SECOND),
    "WSL": Planned((LAPTOP_4060,), WSL),
    "WSL paged": Planned(
        (LAPTOP_4060,), WSL, optim="paged_adamw_32bit", settings=PAGED,
        cautions=("paging-unsupported",),
    ),
    "hybrid laptop": Planned((LAPTOP_4060,)),
    "old driver": Planned(
        (RTX_3060,), driver="535.183.01", build="cu126", blockers=("torch-unsuited",)
    ),
    "old driver, its build": Planned(
        (RTX_3060,), driver="535.183.01", build="cu126", torch="12.6"
    ),
    "Pascal": Planned(
        (GTX_1080,), build="cu126", precision="fp16", blockers=("torch-unsuited",)
    ),
    "Pascal, its build": Planned((GTX_1080,), build="cu126", torch="12.6", precision="fp16"),
    "too old a driver": Planned(
        (RTX_3060,), driver="470.256.02", build=None, blockers=("torch-unsuited",)
    ),
    "too old a GPU": Planned(
        (GTX_780,), build=None, precision="fp16",
        blockers=("torch-unsuited", "quantized-card", "memory-base"),
    ),
}  # fmt: skip


@pytest.fixture
def probed(monkeypatch, tmp_path):
    """Return a function that probes the machine of a case with the real code."""

    def probe(case: Planned) -> hardware.Machine:
        cards = [
            Card(name=name, uuid=f"GPU-{number}", total=int(total * GIB), capability=capability)
            for number, (name, total, capability) in enumerate(case.cards)
        ]
        driver = Driver(*cards)
        driver.nvmlSystemGetDriverVersion = lambda: case.driver
        monkeypatch.setattr(hardware, "_system", lambda: case.system)
        monkeypatch.setattr(hardware, "torch_cuda_version", lambda: case.torch)
        monkeypatch.setattr(hardware, "_packages", lambda: ("triton", "cc", "Python.h"))
        return hardware.probe_machine(tmp_path, nvidia=NvmlClient(driver), environ={})

    return probe


def context_of(
    machine: hardware.Machine, home: Path, info: ModelInfo = STARTER, **settings: Any
) -> RunContext:
    """Return a run with the default settings and some of its own."""
    required = {"task": "text-generation", "model_name": "starter", "dataset": "rows.jsonl"}
    profile = hardware.choose_profile(machine, settings.get("hardware", {}).get("gpu_index", 0))[0]
    config = TrainingConfig(**required, compute_specs=profile, **settings)
    plan = make_plan(config, build_plan_context(config, machine, info, train_rows=160))
    return RunContext(config, plan, machine, info, ROWS, Home(home))


def findings_of(context: RunContext) -> list[Finding]:
    return run_checks(context, search_fit(context))


@pytest.mark.parametrize("name", MACHINES)
def test_a_first_run_is_planned_as_the_machine_can_run_it(probed, tmp_path, name):
    case = MACHINES[name]
    machine = probed(case)
    context = context_of(machine, tmp_path, **case.settings)
    plan = context.plan
    assert (plan.device, plan.precision) == ("cuda", case.precision)
    assert (plan.optim, plan.attn_implementation) == (case.optim, case.attention)
    findings = findings_of(context)
    blockers = [finding.code for finding in findings if finding.level == "blocker"]
    assert tuple(blockers) == case.blockers
    cautions = {finding.code for finding in findings if finding.level == "caution"}
    assert set(case.cautions) <= cautions
    assert "paging-unsupported" not in cautions - {*case.cautions}


@pytest.mark.parametrize("name", MACHINES)
def test_set_up_chooses_the_build_for_driver_and_gpus(probed, tmp_path, name):
    case = MACHINES[name]
    system = case.system.split(maxsplit=1)[0]
    capabilities = [capability for _, _, capability in case.cards]
    assert choose_build(system, case.driver, capabilities) == case.build
    arguments = torch_arguments(system, "x86_64", case.driver, capabilities=capabilities)
    from_pypi = case.build is None or (case.build, system) == ("cu130", "Linux")
    assert ("--index-url" in arguments) is not from_pypi
    assert from_pypi or arguments[-1].endswith(case.build)
    unsuited = [
        finding
        for finding in findings_of(context_of(probed(case), tmp_path, **case.settings))
        if finding.code == "torch-unsuited"
    ]
    for finding in unsuited:
        is_other = case.build is not None and case.torch != {"cu130": "13.0"}.get(
            case.build, "12.6"
        )
        assert (finding.remedy == CHOOSE_BUILD) is is_other


@pytest.mark.parametrize(
    ("apple", "device", "precision", "optim"),
    [(False, "cpu", "fp32", "adamw_torch"), (True, "mps", "fp32", "adamw_torch")],
    ids=["AMD or Intel GPU", "Apple GPU"],
)
def test_without_an_nvidia_gpu_a_run_is_planned_for_what_there_is(
    probed, tmp_path, monkeypatch, apple, device, precision, optim
):
    monkeypatch.setattr(hardware.sys, "platform", "darwin" if apple else "linux")
    monkeypatch.setattr(hardware.platform, "machine", lambda: "arm64" if apple else "x86_64")
    machine = probed(Planned((), torch=""))
    context = context_of(machine, tmp_path, use_4bit=False)
    plan = context.plan
    assert (plan.device, plan.precision, plan.optim) == (device, precision, optim)
    assert not [finding for finding in findings_of(context) if finding.level == "blocker"]
