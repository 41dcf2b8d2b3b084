"""TRL's offloading of all activations, in trials and after a step that ran out of memory."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from trl.models.activation_offloading import get_act_offloading_ctx_manager


def activations_offloaded(trainer: Any) -> AbstractContextManager[Any]:
    """Return the context in which the trainer's activations are offloaded, if they are.

    TRL enters it in its training step alone.
    """
    context: AbstractContextManager[Any] = getattr(
        trainer, "maybe_activation_offload_context", nullcontext()
    )
    return context


def forget_offloaded(trainer: Any) -> None:
    """Let the trainer forget offloaded activations whose backward pass will not come.

    They are those of a step that ran out of memory; on the GPU and on the host they would stay.
    """
    if getattr(trainer.args, "activation_offloading", False):
        trainer.maybe_activation_offload_context = get_act_offloading_ctx_manager(trainer.model)
