"""Every shipped preset holds the defaults of its system, and a run can have them."""

from __future__ import annotations

import pytest

from modelforge.config.resolve import Layer, flatten, resolve
from modelforge.config.style_presets import STYLES

EXPECTED = {
    "Surogate-style": {"num_train_epochs": 3, "weight_decay": 0.1, "lora_r": 16, "packing": True},
    "nanochat": {
        "per_device_train_batch_size": 32,
        "lr_scheduler_type": "warmup_stable_decay",
        "adapter.enabled": False,
        "optimizer.beta1": 0.8,
        "pretraining.enabled": True,
        "pretraining.depth": 20,
        "pretraining.window_pattern": "SSSL",
        "pretraining.arch": "qwen3",
    },
    "Safe-Synthesizer-style": {
        "lora_r": 32,
        "lora_alpha": 32,
        "gradient_accumulation_steps": 8,
        "lr_scheduler_type": "cosine",
        "eval_steps": 15,
    },
    "Stack-Wise": {"per_device_train_batch_size": 4, "max_steps": 200, "weight_decay": 0.1},
}


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_a_style_has_the_defaults_of_its_system(style):
    settings = flatten(style.settings)
    assert EXPECTED[style.name].items() <= settings.items()
    # Nothing of one run, or of the computer.
    assert not {"model_name", "dataset", "task", "provider"} & settings.keys()
    assert not any(name.startswith(("hardware.", "logging.")) for name in settings)


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_a_run_can_have_a_style(style, minimal):
    is_new = "pretraining" in style.settings
    base = {**minimal, "model_name": ""} if is_new else minimal
    config = resolve(Layer("base", base), Layer("style", style.settings)).config
    assert config.model_name == ("d20" if is_new else "starter")
    assert config.strategy == "sft"
