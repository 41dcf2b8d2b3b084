"""What the model is compared with while it learns from preferences: itself, as it was at first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from peft import PeftConfig, get_peft_model

from modelforge.config.plan import Plan
from modelforge.config.schema import TrainingConfig
from modelforge.train.adapting import adapter
from modelforge.train.job import Work

# These adapters change what the model says before they have learned anything, and pissa and olora
# take the change out of the weights below: with the adapter off it is not the model that was.
CHANGING = frozenset({"loftq", "pissa", "olora"})
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
    """Return the model once more where all its weights learn and it has to be kept, else None."""
    job = work.job
    if job.plan.trains == "adapter" or job.config.trainer.precompute_ref_log_probs:
        return None
    return work.load("causal").model.requires_grad_(False).eval()


@contextmanager
def adapted(
    model: Any, config: TrainingConfig, plan: Plan
) -> Iterator[tuple[Any, PeftConfig | None]]:
    """Give TRL the model and the adapter to put on it, so that its reference is the start.

    Usually the reference is the model with the adapter off. Where the adapter changes what the
    model says from the first, it is put on here, and TRL keeps a copy of it as the reference.
    """
    shape = adapter(config, plan)
    if shape is None or config.adapter.init not in CHANGING:
        yield model, shape
        return
    model = get_peft_model(model, shape)
    learns = model.peft_config["default"]
    start = learns.init_lora_weights
    # A second start of this kind would change the weights below once more.
    learns.init_lora_weights = True
    try:
        yield model, None
    finally:
        if _NAME in model.peft_config:
            model.peft_config[_NAME] = copy(learns)
        learns.init_lora_weights = start


def forget(model: Any) -> None:
    """Take the copy of the start off the model, so that it is not saved."""
    if _NAME in getattr(model, "peft_config", {}):
        model.delete_adapter(_NAME)
