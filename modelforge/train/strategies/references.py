"""What the model is compared with while it learns from preferences: itself, as it was at first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft import PeftConfig, get_peft_model

from modelforge.config.plan.make import Plan
from modelforge.config.rules.weights import NEAR_STARTS
from modelforge.config.schema.config import TrainingConfig
from modelforge.modeling.adapters.lora import missing_adapter
from modelforge.train.job import Work
from modelforge.train.strategies.judge import DTYPES

_NAME = "ref"


class Asking:
    """Tells how far the reference has been asked beforehand, and leaves it when that is wished."""

    def __init__(self, *args: Any, heard: Callable[[], None], **more: Any) -> None:
        self._heard = heard
        super().__init__(*args, **more)

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
        """Return what the reference says of a batch; TRL asks this only beforehand."""
        self._heard()
        return super().compute_ref_log_probs(model, inputs)  # type: ignore[misc]


def second_copy(work: Work) -> Any:
    """Return the model once more where all its weights learn and it has to be kept, else None.

    It is kept in the run's number format, as memory is counted, not in the 32 bits that learn.
    """
    job = work.job
    if job.plan.trains == "adapter" or job.config.trainer.precompute_ref_log_probs:
        return None
    copy = work.load("causal").model.requires_grad_(False).eval()
    return copy.to(DTYPES.get(job.plan.precision, torch.float32))


def adapted(model: Any, config: TrainingConfig, plan: Plan) -> tuple[Any, PeftConfig | None]:
    """Return the model and the adapter for TRL to put on it, so that its reference is the start.

    Usually the reference is the model with the adapter off. An adapter with a near start is put on
    here, and TRL gives the model a second one beside it: with such an adapter off, what it began
    with is missing from the weights below.
    """
    shape = missing_adapter(model, config, plan)
    if shape is None or config.adapter.init not in NEAR_STARTS:
        return model, shape
    return get_peft_model(model, shape), None


def remember(trainer: Any) -> Any:
    """Return the trainer with the start of its adapter copied to the one that stays as it is."""
    model = trainer.model
    if _NAME in getattr(model, "peft_config", {}):
        for name, learns in model.named_parameters():
            if ".default." in name:
                stays = model.get_parameter(name.replace(".default.", f".{_NAME}."))
                stays.data.copy_(learns.data)
    return trainer


def forget(model: Any) -> None:
    """Take the copy of the start off the model, so that it is not saved."""
    if _NAME in getattr(model, "peft_config", {}):
        model.delete_adapter(_NAME)
