"""Let a trainer train groups of weights at rates of their own, or matrices with Muon."""

from __future__ import annotations

from typing import Any

from modelforge.config.optimizers import MUON
from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.optimizer import Optimizer
from modelforge.train.optimizer.grouped import GroupedOptimizer
from modelforge.train.optimizer.groups import Kind, parameter_groups, rates_of

# Settings that give a group of weights another rate.
RATES = (
    *("matrix_lr", "embedding_lr", "unembedding_lr", "scalar_lr", "adapter_lr"),
    "loraplus_ratio",
)


def use_groups(trainer: Any, config: TrainingConfig, plan: Plan, *, own_rate: bool = False) -> None:
    """Let `trainer` make its optimizer with the groups of the settings.

    Without a rate for a group and without Muon nothing changes. With `own_rate` the rates of the
    settings are not used: the trainer's own rate is that of all weights.
    """
    settings = Optimizer() if own_rate else config.optimizer
    if plan.optim not in MUON and not any(getattr(settings, name) for name in RATES):
        return
    create = trainer.create_optimizer

    def create_optimizer(*args: Any, **kwargs: Any) -> Any:
        if trainer.optimizer is None:
            rates = rates_of(settings, trainer.args.learning_rate)
            make = _muon if plan.optim in MUON else _with_groups
            trainer.optimizer_cls_and_kwargs = make(trainer, config, plan, rates)
        return create(*args, **kwargs)

    trainer.create_optimizer = create_optimizer


def _with_groups(
    trainer: Any, config: TrainingConfig, _plan: Plan, rates: dict[Kind, float]
) -> tuple[Any, dict[str, Any]]:
    """Return the optimizer class of the trainer's arguments, and its options with the groups."""
    kind, options = trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)
    decayed = set(trainer.get_decay_parameter_names(trainer.model))
    groups = parameter_groups(trainer.model, rates, decayed, config.weight_decay)
    return kind, {**options, "params": [_plain(group) for group in groups]}


def _plain(group: dict[str, Any]) -> dict[str, Any]:
    return {name: group[name] for name in ("params", "lr", "weight_decay")}


def _muon(
    trainer: Any, config: TrainingConfig, plan: Plan, rates: dict[Kind, float]
) -> tuple[Any, dict[str, Any]]:
    """Return the optimizer class with Muon, and its options. Only what Muon trains decays."""
    model, settings = trainer.model, config.optimizer
    names = {name for name, weight in model.named_parameters() if weight.requires_grad}
    groups = parameter_groups(model, rates, names, config.weight_decay)
    for group in groups:
        group["weight_decay"] = group["weight_decay"] if group["is_matrix"] else 0.0
    return GroupedOptimizer, {
        "params": groups,
        "lr": trainer.args.learning_rate,
        "matrices": {
            "momentum": settings.muon_momentum,
            "adjust_lr_fn": settings.muon_scale,
            "normalizes": plan.optim == "normuon",
            "beta2": settings.muon_beta2,
            "cautious": settings.cautious_weight_decay,
        },
        "others": {
            "betas": (settings.beta1, settings.beta2),
            "eps": settings.epsilon,
            "fused": plan.device == "cuda",
        },
    }
