"""Rules about the weights of tokens in the loss."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.config.loss_weights import parse_role_weights
from modelforge.config.rules.registry import rule
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem

ROLES = "data.role_weights"


@rule(ROLES, "data.loss_on")
def _role_weights_are_numbers(config: TrainingConfig) -> Iterator[Problem]:
    try:
        weights = parse_role_weights(config.data.role_weights)
    except ValueError as error:
        what, _, remedy = str(error).partition("\n")
        yield Problem(ROLES, what, remedy)
        return
    others = [weight for role, weight in weights.items() if role != "assistant"]
    if weights.get("assistant") == 0 and not any(others) and config.data.loss_on != "all":
        what = "assistant=0 and no other role: nothing would be trained."
        yield Problem(ROLES, what, "Give a role a weight above 0, or leave it empty.")


@rule(ROLES, "data.message_weights", "provider", "trainer.torch_compile")
def _loss_can_be_weighted(config: TrainingConfig) -> Iterator[Problem]:
    names = [ROLES] if config.data.role_weights.strip() else []
    names += ["data.message_weights"] if config.data.message_weights else []
    for name in names:
        if config.provider == "unsloth":
            what = "Unsloth computes the loss itself, in which all trained tokens weigh the same."
            yield Problem(name, what, "Choose the provider huggingface, or leave it out.")
        elif config.trainer.torch_compile:
            what = "The loss of a compiled model has no weights of tokens; torch_compile is true."
            yield Problem(name, what, "Set trainer.torch_compile to false, or leave it out.")
