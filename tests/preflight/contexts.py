"""A run without findings; each test changes what it is about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from modelforge.config.plan.context import is_native_linux
from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.checks.summary import DatasetSummary
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.errors import Finding
from modelforge.hardware.machine import Machine
from modelforge.hardware.nvidia import Gpu
from modelforge.models.architecture import ModelInfo
from modelforge.paths import Home
from modelforge.preflight import Report, preflight
from modelforge.preflight.checks.run import run_checks
from modelforge.preflight.context import RunContext
from modelforge.preflight.suggest.fit import search_fit

STARTER = ModelInfo(
    name="starter",
    path="/home/models/starter",
    revision=None,
    architecture="LlamaForCausalLM",
    model_type="llama",
    parameters=134_515_008,
    hidden_size=576,
    layers=30,
    heads=9,
    kv_heads=3,
    intermediate=1536,
    vocab=49152,
    context=8192,
    weights_gib=0.25,
    has_chat_template=True,
    tied=True,
    local=True,
    head_dim=64,
)
LLAMA_8B = replace(
    STARTER,
    name="meta-llama/Llama-3.1-8B-Instruct",
    path="meta-llama/Llama-3.1-8B-Instruct",
    parameters=8_030_261_248,
    hidden_size=4096,
    layers=32,
    heads=32,
    kv_heads=8,
    intermediate=14336,
    vocab=128256,
    context=131072,
    weights_gib=14.96,
    tied=False,
    local=False,
    head_dim=128,
)
CARD = Gpu(0, "RTX 4070", 12.0, 10.8, 0.2, (8, 9), "570.1")
LAPTOP = Machine(
    system="Linux",
    python="3.12",
    cpu="a CPU",
    cores=2,
    ram_total_gib=16.0,
    ram_free_gib=12.0,
    disk_free_gib=100.0,
    disk_total_gib=500.0,
    gpus=[],
    gpu_note="No NVIDIA driver.",
    apple_gpu=False,
)
WORKSTATION = replace(
    LAPTOP,
    cores=8,
    ram_total_gib=32.0,
    ram_free_gib=24.0,
    gpus=[CARD],
    packages=("cc", "Python.h"),
)
ROWS = DatasetSummary(
    path=Path("rows.jsonl"),
    name="rows.jsonl",
    rows=200,
    columns=["input", "output"],
    mapping=ColumnMapping("pair", {}),
    examples=[],
    findings=[],
    sha256="0" * 64,
    mean_chars=240.0,
    longest_chars=480,
)
ON_CPU = {"use_4bit": False, "compute_specs": "low_end", "optim": "adamw_torch"}
ON_GPU = {"compute_specs": "mid_range", "max_seq_length": 2048}


def make_context(
    machine: Machine = LAPTOP,
    info: ModelInfo | None = STARTER,
    summary: DatasetSummary | None = ROWS,
    **settings: Any,
) -> RunContext:
    """Return a run on `machine` with some settings over defaults that suit it."""
    usual = ON_GPU if machine.gpus else ON_CPU
    required = {"task": "text-generation", "model_name": "starter", "dataset": "rows.jsonl"}
    config = TrainingConfig.from_record({**required, **usual, **settings})
    device = machine.device if config.hardware.device == "auto" else config.hardware.device
    index = config.hardware.gpu_index
    gpu = next((gpu for gpu in machine.gpus if gpu.index == index), None)
    context = PlanContext(
        device=device,
        model_path=info.path if info else "unknown",
        compute_capability=gpu.compute_capability if gpu else None,
        context=info.context if info else None,
        train_rows=round(summary.rows * (1 - config.eval_split)) if summary else None,
        native_linux=is_native_linux(machine.system),
    )
    home = Home(Path("/home/somebody/forge"))
    return RunContext(config, make_plan(config, context), machine, info, summary, home)


def findings_of(context: RunContext) -> list[Finding]:
    """Return the findings of all checks."""
    return run_checks(context, search_fit(context))


def report_of(context: RunContext) -> Report:
    """Return the report of preflight."""
    return preflight(context)
