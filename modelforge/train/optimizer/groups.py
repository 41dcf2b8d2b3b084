"""Divide the trained weights of a model into groups: matrices, adapter, embeddings, head, scalars.

The division reads the modules of the model and no names of model families, so that it holds for
adapters, full fine-tuning and models that are trained from nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Literal, get_args

from torch import nn

from modelforge.config.optimizers import TrainedSizes
from modelforge.config.schema.optimizer import Optimizer

Kind = Literal["matrix", "adapter", "adapter_b", "embedding", "head", "scalar"]
# The first group is the one whose rate is reported: matrices, or else the adapter.
KINDS: tuple[Kind, ...] = get_args(Kind)
# Heads of tasks; the head of a language model is its output embedding.
TASK_HEADS = frozenset({"qa_outputs", "score", "classifier", "lm_head"})
EMBEDDING_FACTORS = ("lora_embedding_A", "lora_embedding_B")


def kinds_of(model: nn.Module) -> dict[str, Kind]:
    """Return the kind of each trained weight by its name.

    Embeddings that are tied to the head count as the head, whose usual rate is the lower one. A
    matrix is every weight of two or more dimensions that is none of the others.
    """
    heads = _head_weights(model)
    modules = dict(model.named_modules())
    found: dict[str, Kind] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            owner = modules[name.rpartition(".")[0]]
            found[name] = _kind(name, weight, owner, is_head=id(weight) in heads)
    return found


def rates_of(optimizer: Optimizer, rate: float) -> dict[Kind, float]:
    """Return the learning rate of each kind; `rate` where a setting is empty."""
    adapter = optimizer.adapter_lr or rate
    return {
        "matrix": optimizer.matrix_lr or rate,
        "adapter": adapter,
        "adapter_b": adapter * (optimizer.loraplus_ratio or 1.0),
        "embedding": optimizer.embedding_lr or rate,
        "head": optimizer.unembedding_lr or rate,
        "scalar": optimizer.scalar_lr or rate,
    }


def parameter_groups(
    model: nn.Module, rates: Mapping[Kind, float], decayed: Set[str], weight_decay: float
) -> list[dict[str, Any]]:
    """Return the parameter groups of an optimizer, without empty ones.

    A group has `params`, `lr`, `weight_decay`, `kind`, and `is_matrix`: whether all its weights
    are matrices that Muon can update. `decayed` are the names of the weights that decay.
    """
    weights = dict(model.named_parameters())
    groups: dict[tuple[Kind, bool, bool], dict[str, Any]] = {}
    named = kinds_of(model).items()
    for name, kind in sorted(named, key=lambda item: KINDS.index(item[1])):
        is_matrix = kind in ("matrix", "adapter", "adapter_b") and weights[name].ndim == 2
        decays = name in decayed
        group = groups.setdefault(
            (kind, is_matrix, decays),
            {
                "params": [],
                "lr": rates[kind],
                "weight_decay": weight_decay if decays else 0.0,
                "kind": kind,
                "is_matrix": is_matrix,
            },
        )
        group["params"].append(weights[name])
    return list(groups.values())


def trained_sizes(model: nn.Module) -> TrainedSizes:
    """Return how many weights of the model are trained, and the largest tensors of them."""
    weights, sizes = dict(model.named_parameters()), {True: [0], False: [0]}
    for name, kind in kinds_of(model).items():
        is_matrix = kind in ("matrix", "adapter", "adapter_b") and weights[name].ndim == 2
        sizes[is_matrix].append(weights[name].numel())
    return TrainedSizes(sum(sizes[True]), sum(sizes[False]), max(sizes[True]), max(sizes[False]))


def _head_weights(model: nn.Module) -> set[int]:
    """Return the identities of the weights of the output head."""
    get = getattr(model, "get_output_embeddings", None)
    head = get() if get is not None else None
    return set() if head is None else {id(weight) for weight in head.parameters()}


def _kind(name: str, weight: nn.Parameter, owner: nn.Module, *, is_head: bool) -> Kind:
    path = set(name.split("."))
    if path & set(EMBEDDING_FACTORS):
        return "embedding"
    if any(part.startswith("lora_") for part in path):
        return "adapter_b" if "lora_B" in path else "adapter"
    if weight.ndim < 2:
        return "scalar"
    if is_head or path & TASK_HEADS:
        return "head"
    return "embedding" if isinstance(owner, nn.Embedding) else "matrix"
