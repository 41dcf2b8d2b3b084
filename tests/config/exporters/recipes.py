"""Recipes that the exporters are tested with."""

from __future__ import annotations

from typing import Any

from modelforge.config.resolve import Layer, nest, resolve
from modelforge.config.schema.config import TrainingConfig

BASE: dict[str, Any] = {
    "task": "text-generation",
    "model_name": "owner/model",
    "dataset": "rows.jsonl",
    "compute_specs": "low_end",
    "max_seq_length": 1024,
    "use_4bit": False,
    "quantization.scheme": "none",
    "optim": "adamw_8bit",
    "eval_split": 0.1,
    "data.loss_on": "assistant",
    "group_by_length": False,
    "bf16": True,
}
ALL_WEIGHTS = {"adapter.enabled": False, "learning_rate": 2e-5, "lr_scheduler_type": "linear"}
QLORA = {
    "strategy": "qlora",
    "use_4bit": True,
    "quantization.scheme": "auto",
    "use_nested_quant": True,
    "lora_r": 8,
    "lora_alpha": 24,
    "lora_dropout": 0.05,
    "adapter.target_modules": "q_proj, v_proj",
}
SHORT = {
    "max_steps": 30,
    "schedule.warmup_steps": 5,
    "packing": True,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "gradient_checkpointing": False,
    "max_grad_norm": 1.0,
    "weight_decay": 0.1,
    "optimizer.beta2": 0.95,
    "trainer.seed": 7,
    "trainer.save_steps": 200,
    "trainer.save_total_limit": 2,
    "logging.report_to": "wandb",
    "logging.project": "birds",
    "eval_steps": 20,
}
NO_EVALUATION = {"eval_split": 0.0, "trainer.save_steps": -1, "data.loss_on": "all"}
DPO = {
    "strategy": "dpo",
    "trainer.preference_beta": 0.2,
    "learning_rate": 5e-6,
    "data.loss_on": "completion",
}
FROM_NOTHING = {
    "pretraining.enabled": True,
    "model_name": "",
    "adapter.enabled": False,
    "optim": "normuon",
}
GROWN = {**FROM_NOTHING, "optim": "adamw_torch", "progressive.enabled": True}
IPO = {**DPO, "trainer.preference_loss": "ipo"}
KTO = {**DPO, "trainer.preference_loss": "kto"}

DECAYS = {
    "lr_scheduler_type": "wsd",
    "max_steps": 100,
    "schedule.decay_steps": 20,
    "schedule.final_lr_fraction": 0.25,
}
ENDS_ABOVE_ZERO = {"schedule.final_lr_fraction": 0.1, "trainer.neftune_noise_alpha": 5.0}
LINEAR_ABOVE_ZERO = {"lr_scheduler_type": "linear", "schedule.final_lr_fraction": 0.25}
OFFLOADS = {
    "memory.activation_offload": True,
    "trainer.torch_compile": True,
    "hardware.torch_compile_mode": "reduce-overhead",
}
COOLS_DOWN = {"lr_scheduler_type": "cosine", "max_steps": 100, "schedule.decay_steps": 20}
NORMUON = {
    **ALL_WEIGHTS,
    "optim": "normuon",
    "optimizer.muon_momentum": 0.9,
    "optimizer.cautious_weight_decay": False,
    "optimizer.muon_scale": "original",
}
MUON = {**ALL_WEIGHTS, "optim": "muon", "optimizer.cautious_weight_decay": False}
RATES = {
    "optimizer.loraplus_ratio": 16.0,
    "optimizer.embedding_lr": 1e-5,
    "optimizer.unembedding_lr": 1e-5,
}

SUPERVISED = {
    "usual": {},
    "all-weights": ALL_WEIGHTS,
    "qlora": QLORA,
    "short": SHORT,
    "no-evaluation": NO_EVALUATION,
    "decays": DECAYS,
    "ends-above-zero": ENDS_ABOVE_ZERO,
    "linear-above-zero": LINEAR_ABOVE_ZERO,
    "offloads": OFFLOADS,
    "cools-down": COOLS_DOWN,
    "normuon": NORMUON,
    "muon": MUON,
    "rates": RATES,
    "fp8": {"quantization.fp8_training": True},
}
PREFERENCE = {"dpo": DPO, "ipo": IPO, "kto": KTO}


def config_of(*changes: dict[str, Any], base: dict[str, Any] = BASE) -> TrainingConfig:
    """Return the config of a recipe."""
    merged: dict[str, Any] = dict(base)
    for change in changes:
        merged |= change
    return resolve(Layer("recipe", nest(merged))).config
