"""What a training says of itself before it begins: the model, the machine, the updates."""

from __future__ import annotations

import math
from typing import Any

from modelforge.train.job import Job


def plan_facts(job: Job, trainer: Any) -> dict[str, Any]:
    """Return what the plan event says of the model and the machine."""
    plan = job.plan
    sizes = [(each.numel(), each.requires_grad) for each in trainer.model.parameters()]
    if hasattr(trainer.model, "get_nb_trainable_parameters"):
        trainable, total = trainer.model.get_nb_trainable_parameters()
    else:
        trainable = sum(size for size, learns in sizes if learns)
        total = sum(size for size, _ in sizes)
    args = trainer.args
    batches = math.ceil(len(trainer.train_dataset) / args.per_device_train_batch_size)
    return {
        "steps_per_epoch": math.ceil(batches / args.gradient_accumulation_steps),
        "trainable_parameters": trainable,
        "total_parameters": total,
        "max_length": plan.max_length,
        "device": plan.device,
        "precision": plan.precision,
        "quantization": plan.quantization,
        "method": plan.method,
    }
