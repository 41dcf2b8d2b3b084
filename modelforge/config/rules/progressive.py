"""Rules about growing a model: stages, adapters, masks, and what it excludes."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.config.optimizers import MUON
from modelforge.config.progressive.checks import growth_problems
from modelforge.config.progressive.mask_schedule import mask_problems
from modelforge.config.progressive.settings import growth_of, masking_of, read_numbers, read_table
from modelforge.config.rules.registry import rule
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem

ENABLED = "progressive.enabled"
OFF = "or set progressive.enabled to false."
GROUP = tuple(
    f"progressive.{name}"
    for name in (
        *("mode", "stages", "layers_per_stage", "direction", "trunk", "stack_lora", "stack_rank"),
        *("stack_alpha", "trunk_lora", "trunk_rank", "trunk_alpha", "rank_strategy", "per_stage"),
        *("rank_pattern", "alpha_pattern", "joint_tuning_steps"),
    )
)


@rule(ENABLED, "task", "strategy", "provider", "hardware.engine")
def _a_decoder_learns_texts(config: TrainingConfig) -> Iterator[Problem]:
    if not config.progressive.enabled:
        return
    wanted = {
        "task": (config.task, "text-generation"),
        "strategy": (config.strategy, "sft"),
        "provider": (config.provider, "huggingface"),
        "hardware.engine": (config.hardware.engine, "inprocess"),
    }
    for name, (value, needed) in wanted.items():
        if value != needed:
            yield Problem(
                name, f"Growing a model needs {needed}; {value} is set.", f"Choose {needed}, {OFF}"
            )


@rule(ENABLED, "adapter.enabled", "adapter.start_from", "optim")
def _stages_have_their_own_adapters(config: TrainingConfig) -> Iterator[Problem]:
    if not config.progressive.enabled:
        return
    if config.adapter.enabled:
        yield Problem(
            "adapter.enabled",
            "A growing model has the adapters of its stages, and its result is a whole model.",
            f"Set it to false, {OFF}",
        )
    if config.adapter.start_from is not None:
        yield Problem(
            "adapter.start_from",
            f"It is {config.adapter.start_from[:60]!r}; a stage begins with new adapters.",
            f"Merge it into the model, and remove it, {OFF}",
        )
    if config.optim in MUON:
        yield Problem(
            "optim",
            f"{config.optim} has rates for kinds of weights; a growing model has rates for trunk, "
            "new layers and adapters.",
            f"Choose adamw_torch, {OFF}",
        )


@rule(ENABLED, "privacy.enabled", "model.rope_type", "trainer.resume_from_checkpoint")
def _nothing_else_changes_the_model(config: TrainingConfig) -> Iterator[Problem]:
    if not config.progressive.enabled:
        return
    if config.privacy.enabled:
        what = "Differential privacy counts the steps of one training, and stages are several."
        yield Problem("privacy.enabled", what, f"Set it to false, {OFF}")
    if config.model.rope_type != "none":
        what = f"It is {config.model.rope_type}; a growing model keeps the context that it has."
        yield Problem("model.rope_type", what, f"Remove it, {OFF}")
    if config.trainer.resume_from_checkpoint is not None:
        what = "A checkpoint of a stage holds only what trains in that stage."
        yield Problem(
            "trainer.resume_from_checkpoint", what, f"Remove it and resume that run, {OFF}"
        )


@rule(
    ENABLED,
    *("max_steps", "trainer.target_flops", "trainer.target_tokens", "trainer.fractional_epochs"),
    "data.records_to_sample",
)
def _a_stage_has_steps_or_epochs(config: TrainingConfig) -> Iterator[Problem]:
    if not config.progressive.enabled:
        return
    values = {
        "max_steps": config.max_steps if config.max_steps > 0 else None,
        "trainer.target_flops": config.trainer.target_flops,
        "trainer.target_tokens": config.trainer.target_tokens,
        "trainer.fractional_epochs": config.trainer.fractional_epochs,
        "data.records_to_sample": config.data.records_to_sample,
    }
    for name, value in values.items():
        if value is not None:
            yield Problem(
                name,
                f"{value} is set; the length of growing is that of its stages.",
                "Set progressive.steps_per_stage or progressive.epochs_per_stage, and remove it.",
            )


@rule(ENABLED, *GROUP)
def _stages_are_possible(config: TrainingConfig) -> Iterator[Problem]:
    group = config.progressive
    if not group.enabled:
        return
    try:
        read_table(group.per_stage)
    except ValueError as error:
        remedy = "Write for instance 0: 8/16, 1: 16/32."
        yield Problem("progressive.per_stage", str(error), remedy)
        return
    base = 0 if config.pretraining.enabled else 1
    yield from growth_problems(growth_of(config, base))


@rule(ENABLED, "pretraining.enabled", "pretraining.n_layers", "pretraining.depth", *GROUP)
def _stacks_make_up_a_model_from_nothing(config: TrainingConfig) -> Iterator[Problem]:
    group, new = config.progressive, config.pretraining
    if not (group.enabled and new.enabled):
        return
    layers = group.stages * group.layers_per_stage
    if new.n_layers is not None and new.n_layers != layers:
        is_divided = new.n_layers % group.layers_per_stage == 0
        better = new.n_layers // group.layers_per_stage
        yield Problem(
            "pretraining.n_layers",
            f"It is {new.n_layers}, and {group.stages} stages of {group.layers_per_stage} layers "
            f"are {layers}.",
            f"Set progressive.stages to {better}, or n_layers to {layers}."
            if is_divided
            else f"{group.layers_per_stage} does not divide it: set n_layers to {layers}.",
        )
    if group.trunk_quantization != "none":
        yield Problem(
            "progressive.trunk_quantization",
            f"It is {group.trunk_quantization}; a model from nothing has no weights to quantize "
            "before its first stage.",
            "Set it to none.",
        )


@rule(
    *(ENABLED, "pretraining.enabled", "pretraining.embedding_adapter_dim"),
    *("pretraining.freeze_embeddings", "pretraining.tie_embeddings"),
)
def _embeddings_have_an_adapter(config: TrainingConfig) -> Iterator[Problem]:
    new, name = config.pretraining, "pretraining.embedding_adapter_dim"
    size = new.embedding_adapter_dim
    if size is None or not new.enabled:
        return
    if not config.progressive.enabled:
        what = f"It is {size}; only a model that grows trains an adapter of its embeddings."
        yield Problem(name, what, "Leave it empty, or set progressive.enabled.")
    elif not new.freeze_embeddings:
        what = f"It is {size}, and no embeddings are borrowed."
        yield Problem(name, what, "Leave it empty, or set pretraining.freeze_embeddings.")
    elif new.tie_embeddings:
        what = f"It is {size}, and the head would share weights of another width."
        yield Problem(name, what, "Leave it empty, or set pretraining.tie_embeddings to false.")


@rule(ENABLED, "progressive.trunk_quantization", "progressive.joint_tuning_steps")
def _a_quantized_trunk_is_frozen(config: TrainingConfig) -> Iterator[Problem]:
    group = config.progressive
    if not group.enabled or group.trunk_quantization == "none":
        return
    if group.joint_tuning_steps:
        yield Problem(
            "progressive.joint_tuning_steps",
            f"It is {group.joint_tuning_steps}, and weights in {group.trunk_quantization} cannot "
            "be trained.",
            "Set it to 0, or progressive.trunk_quantization to none.",
        )


MASKS = tuple(
    f"progressive.{name}"
    for name in ("mask_by", "mask_steps", "mask_fractions", "mask_min", "mask_max")
)


@rule(ENABLED, "progressive.objective", *MASKS)
def _masks_rise(config: TrainingConfig) -> Iterator[Problem]:
    group = config.progressive
    if not group.enabled or group.objective != "mlm":
        return
    try:
        read_numbers(group.mask_fractions)
    except ValueError as error:
        yield Problem("progressive.mask_fractions", str(error), "Write for instance 0.15, 0.5.")
        return
    yield from mask_problems(masking_of(group), group.mask_steps)


@rule(
    ENABLED,
    *("progressive.objective", "packing", "data.padding_free", "progressive.cache_activations"),
    *("data.role_weights", "data.message_weights", "evaluation.row_losses", "evaluation.samples"),
)
def _masked_texts_are_apart(config: TrainingConfig) -> Iterator[Problem]:
    group, data = config.progressive, config.data
    if not group.enabled or group.objective != "mlm":
        return
    apart = "attention in both directions would see the other texts of a row"
    reasons = {
        "packing": (config.packing, apart),
        "data.padding_free": (data.padding_free, apart),
        "progressive.cache_activations": (group.cache_activations, "masks differ in each epoch"),
        "data.role_weights": (bool(data.role_weights.strip()), "masked tokens all count alike"),
        "data.message_weights": (data.message_weights, "masked tokens all count alike"),
    }
    for name, (is_set, why) in reasons.items():
        if is_set:
            yield Problem(
                name,
                f"It is set, and with the masked objective {why}.",
                "Remove it, or set progressive.objective to clm.",
            )


@rule(
    *(ENABLED, "progressive.cache_activations", "progressive.direction", "progressive.trunk"),
    "trainer.neftune_noise_alpha",
)
def _a_cached_trunk_is_fixed(config: TrainingConfig) -> Iterator[Problem]:
    group = config.progressive
    if not (group.enabled and group.cache_activations):
        return
    remedy = "Set progressive.cache_activations to false, or {}."
    if config.trainer.neftune_noise_alpha:
        what = f"Noise of {config.trainer.neftune_noise_alpha:g} is added to the embeddings below."
        remove = "remove trainer.neftune_noise_alpha"
        yield Problem("progressive.cache_activations", what, remedy.format(remove))
    if group.trunk == "lora":
        what = "The trunk has adapters that train, so that its output changes with every step."
        yield Problem("progressive.cache_activations", what, remedy.format("trunk to frozen"))
    if group.direction == "prepend":
        what = "New layers in front are below the trunk, whose input they change."
        yield Problem("progressive.cache_activations", what, remedy.format("direction to append"))
