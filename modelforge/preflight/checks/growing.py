"""Checks of growing a model: whether its layers are known, and what a stage does without effect."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.config.progressive.checks import model_problems
from modelforge.config.progressive.settings import growth_of
from modelforge.errors import Finding, blocker, caution, note
from modelforge.preflight.context import RunContext


def model_cannot_grow(context: RunContext) -> Iterator[Finding]:
    """Refuse a model whose layers are not known, or where new ones cannot be in front."""
    growing, model = context.plan.growing, context.model
    if growing is None or model is None:
        return
    growth = growth_of(context.config, growing.base_layers or 0)
    for problem in model_problems(growth, model.model_type):
        yield blocker("model-cannot-grow", problem.what, problem.remedy, problem.where)
    if model.experts:
        what = f"The layers of {model.name} have {model.experts} experts."
        yield blocker("model-cannot-grow", what, "Choose a model without experts.", "model_name")


def masked_objective(context: RunContext) -> Iterator[Finding]:
    """Warn that the masked objective is experimental and its result does not generate text."""
    if context.plan.growing is None or context.config.progressive.objective != "mlm":
        return
    yield caution(
        "masked-experimental",
        "The masked objective is experimental: the result attends in both directions and cannot "
        "generate text token by token, so it cannot be talked to.",
        "Choose clm for a model to talk to.",
        "progressive.objective",
        "clm",
    )


def cache_unused(context: RunContext) -> Iterator[Finding]:
    """Note that a cache of the trunk is only written where a stage reads its rows once."""
    growing, group = context.plan.growing, context.config.progressive
    if growing is None or not group.cache_activations or (growing.epochs or 2) > 1:
        return
    yield note(
        "cache-read-once",
        f"A stage reads the rows {growing.epochs:.2g} times; what the cache stores is used from "
        "the second time on.",
        "Switch it off, or raise the epochs of a stage.",
        "progressive.cache_activations",
        False,
    )
