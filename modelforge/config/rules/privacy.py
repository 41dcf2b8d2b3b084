"""Rules about differential privacy: what it cannot be combined with."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.config.rules.registry import rule
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem

ENABLED = "privacy.enabled"
OFF = "or set privacy.enabled to false."


@rule(ENABLED, "strategy", "task", "provider", "hardware.engine")
def _privacy_has_a_method(config: TrainingConfig) -> Iterator[Problem]:
    if not config.privacy.enabled:
        return
    if config.strategy not in ("sft", "qlora"):
        yield Problem(
            ENABLED,
            f"Differential privacy is for supervised fine-tuning; {config.strategy} compares or "
            "generates answers, whose privacy is not accounted for.",
            f"Choose the strategy sft or qlora, {OFF}",
        )
    elif config.task != "text-generation":
        yield Problem(
            ENABLED,
            f"Differential privacy is for text-generation; the task is {config.task}.",
            f"Choose the task text-generation, {OFF}",
        )
    if config.hardware.engine != "inprocess":
        yield Problem(
            ENABLED,
            f"The engine {config.hardware.engine} has no differential privacy.",
            f"Choose the engine inprocess, {OFF}",
        )
    if config.provider == "unsloth":
        yield Problem(
            ENABLED,
            "Unsloth computes the gradient of a batch at once, not of each row.",
            f"Choose the provider huggingface, {OFF}",
        )


@rule(ENABLED, "packing", "data.padding_free", "data.truncation_strategy", "data.sources")
def _a_row_is_trained_alone(config: TrainingConfig) -> Iterator[Problem]:
    if not config.privacy.enabled:
        return
    joined = {"packing": config.packing, "data.padding_free": config.data.padding_free}
    for name, is_joined in joined.items():
        if is_joined:
            yield Problem(
                name,
                "It puts several rows into one sequence, whose gradients cannot be told apart.",
                f"Set it to false, {OFF}",
            )
    if config.data.truncation_strategy == "split":
        yield Problem(
            "data.truncation_strategy",
            "A long row would become several rows, and privacy is counted for each.",
            f"Choose right, left or delete, {OFF}",
        )
    if not config.data.shuffle:
        yield Problem(
            "data.shuffle",
            "The privacy that is accounted for comes from drawing the rows of a step at random.",
            f"Set it to true, {OFF}",
        )
    if len({source.weight for source in config.data.sources}) > 1:
        yield Problem(
            "data.sources",
            "Sources with different weights repeat rows, and privacy is counted for each of them.",
            f"Give all sources the same weight, {OFF}",
        )


@rule(ENABLED, "fp16", "hardware.precision", "trainer.torch_compile", "adapter.dtype")
def _noise_is_exact(config: TrainingConfig) -> Iterator[Problem]:
    if not config.privacy.enabled:
        return
    if config.fp16 or config.hardware.precision == "fp16":
        yield Problem(
            "fp16" if config.fp16 else "hardware.precision",
            "fp16 scales the loss, and gradients must be clipped at their true size.",
            f"Choose bf16 or fp32, {OFF}",
        )
    if config.trainer.torch_compile:
        yield Problem(
            "trainer.torch_compile",
            "A compiled step would be compiled again for each length of a row.",
            f"Set it to false, {OFF}",
        )
    if config.adapter.dtype == "bfloat16":
        yield Problem(
            "adapter.dtype",
            "Noise in bfloat16 is rounded coarsely, so the privacy would be less than stated.",
            f"Choose auto or float32, {OFF}",
        )
