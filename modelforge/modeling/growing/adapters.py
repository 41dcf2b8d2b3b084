"""The adapters of a stage: one of the stacks and one of the trunk, active at the same time."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig, TaskType, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from modelforge.config.progressive.stages import AdapterPlan, StagePlan
from modelforge.modeling.growing.layers import decoder_layers


def add_stage_adapters(model: PreTrainedModel, stage: StagePlan, *, dropout: float = 0.0) -> Any:
    """Return the model with the adapters of a stage, all active; without any, the model itself.

    They change nothing until they are trained. `prepare_stage` must follow: PEFT freezes all else.
    `save_pretrained` stores the adapters alone, each in a folder of its name; weights of new
    layers are in the model that `merge_and_unload` returns. All linear layers get an adapter, of
    the type deepseek_v3 those of attention alone: PEFT 0.21 takes every MLP of this type for
    experts (`_convert_peft_config_moe`).
    """
    if not stage.adapters:
        return model
    linear = sorted(
        {
            name.rpartition(".")[2]
            for name, module in decoder_layers(model).named_modules()
            if isinstance(module, nn.Linear)
        }
    )
    first, *others = (_lora_config(adapter, linear, dropout) for adapter in stage.adapters)
    names = [adapter.name for adapter in stage.adapters]
    adapted = get_peft_model(model, first, adapter_name=names[0])
    for name, config in zip(names[1:], others, strict=True):
        adapted.add_adapter(name, config)
    adapted.base_model.set_adapter(names)
    return adapted


def _lora_config(adapter: AdapterPlan, linear: list[str], dropout: float) -> LoraConfig:
    patterns = {rf"layers\.{layer}\..*": size for layer, size in adapter.sizes.items()}
    usual = next(iter(adapter.sizes.values()))
    return LoraConfig(
        r=usual.rank,
        lora_alpha=usual.alpha,
        rank_pattern={key: size.rank for key, size in patterns.items() if size != usual},
        alpha_pattern={key: size.alpha for key, size in patterns.items() if size != usual},
        target_modules=linear,
        layers_to_transform=list(adapter.sizes),
        layers_pattern="layers",
        lora_dropout=dropout,
        bias="none",
        task_type=TaskType.CAUSAL_LM,
    )
