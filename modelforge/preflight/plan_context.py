"""Build the context of a plan from machine, model and data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelforge.config.methods import METHOD_FACTS, method_of
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
    model: ModelInfo,
    *,
    train_rows: int | None = None,
    summary: DatasetSummary | None = None,
    start_from: str | None = None,
) -> PlanContext:
    """Return the context of the plan; `start_from` is the folder of an adapter."""
    device = machine.device if config.hardware.device == "auto" else config.hardware.device
    gpu = next((gpu for gpu in machine.gpus if gpu.index == config.hardware.gpu_index), None)
    return PlanContext(
        device=device,
        model_path=model.path,
        model_revision=model.revision,
        compute_capability=gpu.compute_capability if gpu else None,
        context=model.context,
        train_rows=train_rows,
        kind=model.kind,
        packages=frozenset(machine.packages),
        start_from=start_from,
        row_tokens=estimate_tokens(summary.mean_chars) if summary else None,
    )


def train_rows(config: TrainingConfig, model: ModelInfo, data: RunData) -> int | None:
    """Return the number of training rows; None without sources or with an impossible split.

    An impossible split is reported by the checks.
    """
    if not data.sources:
        return None
    try:
        rows = data.train_rows(config.eval_split)
    except ForgeError:
        return None
    takes_labels = METHOD_FACTS[method_of(config, model.kind)].takes_labels
    return data.labelled_completions(rows) if takes_labels else rows
