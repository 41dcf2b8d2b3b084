"""The memory of each of several GPUs, from that of one."""

from __future__ import annotations

from modelforge.config.plan.make import Plan
from modelforge.models.architecture import ModelInfo

# What each way to divide a model divides.
_DIVIDED: dict[str, tuple[str, ...]] = {
    "fsdp2": ("weights", "adapter", "gradients", "optimizer"),
    "zero1": ("optimizer",),
    "zero2": ("gradients", "optimizer"),
    "zero3": ("weights", "adapter", "gradients", "optimizer"),
}


def shares(plan: Plan, part: str) -> int:
    """Return among how many GPUs a part of the memory is divided.

    1 for a part that each of them holds whole.
    """
    return plan.ranks if part in _DIVIDED.get(plan.sharding, ()) else 1


def divided(parts: dict[str, float], plan: Plan, model: ModelInfo) -> dict[str, float]:
    """Return the bytes of the parts on each of several GPUs.

    Beside its share a GPU holds two layers and the embeddings whole while they are computed. With
    ddp gradients are copied into buffers that are sent.
    """
    if plan.ranks == 1:
        return parts
    result = {name: size / shares(plan, name) for name, size in parts.items()}
    if plan.sharding == "ddp":
        result["gradients"] *= 2
    if shares(plan, "weights") > 1:
        layers = 2 * model.linear_weights / (model.layers or 1)
        per_weight = 4 if plan.precision == "fp32" else 2
        result["weights"] += (layers + model.embedding_weights) * per_weight
    for name in ("activations", "logits"):
        result[name] /= plan.sequence_parallel_size
    return result
