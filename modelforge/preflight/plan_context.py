"""What a plan stands on, put together from machine, model and data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelforge.config.methods import method_of
from modelforge.config.plan.context import PlanContext
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.sources.combine import RunData
from modelforge.errors import ForgeError
from modelforge.models.architecture import ModelInfo
from modelforge.preflight.speed import estimate_tokens

if TYPE_CHECKING:
    from modelforge.data.checks.summary import DatasetSummary
    from modelforge.hardware.machine import Machine


def build_plan_context(
    config: TrainingConfig,
    machine: Machine,
    facts: ModelInfo,
    *,
    train_rows: int | None = None,
    look: DatasetSummary | None = None,
    start: str | None = None,
) -> PlanContext:
    """Return the facts that the plan of `config` depends on; `start` is an adapter's folder."""
    device = machine.device if config.hardware.device == "auto" else config.hardware.device
    gpu = next((gpu for gpu in machine.gpus if gpu.index == config.hardware.gpu_index), None)
    return PlanContext(
        device=device,
        model_path=facts.path,
        model_revision=facts.revision,
        compute_capability=gpu.compute_capability if gpu else None,
        context=facts.context,
        train_rows=train_rows,
        kind=facts.kind,
        packages=frozenset(machine.packages),
        start_from=start,
        row_tokens=estimate_tokens(look.mean_chars) if look else None,
    )


def train_rows(config: TrainingConfig, facts: ModelInfo, material: RunData) -> int | None:
    """Return how many rows are trained on; None where there are none, or they cannot be split.

    A share that cannot be split is preflight's to say, with the value that mends it.
    """
    if not material.sources:
        return None
    try:
        rows = material.train_rows(config.eval_split)
    except ForgeError:
        return None
    return material.labelled_completions(rows) if method_of(config, facts.kind) == "kto" else rows
