"""The FLOPs of a training from nothing, and the peak of its GPU, for the plan event."""

from __future__ import annotations

from typing import Any

import torch

from modelforge.config.pretraining.peak_flops import peak_flops
from modelforge.config.pretraining.settings import shape_of
from modelforge.train.job import Job


def flops_facts(job: Job, vocab_size: int) -> dict[str, Any]:
    """Return the fields `flops_per_token` and `peak_flops` of the plan event.

    Args:
        job: a training from nothing.
        vocab_size: tokens of the tokenizer, own or borrowed.
    """
    shape = shape_of(job.config.pretraining, context=job.plan.max_length, vocab_size=vocab_size)
    peak = peak_flops(torch.cuda.get_device_name()) if job.plan.device == "cuda" else None
    return {"flops_per_token": float(shape.flops_per_token), "peak_flops": peak}
