"""Settings of precision, memory and compilation in the files of other systems."""

from __future__ import annotations

import pytest
import yaml

from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.write import export_settings
from tests.config.exporters.recipes import DPO, config_of

EVERY = {"memory.checkpoint_every_n_layers": 2}
FP8 = {"quantization.fp8_training": True}
BLOCKS = {"quantization.scheme": "fp8", "strategy": "qlora"}
FOUR_OVER_SIX = {
    "quantization.scheme": "nvfp4",
    "strategy": "qlora",
    "quantization.four_over_six": True,
}
VARLEN = {"model.attn_implementation": "varlen", "packing": True}
OFFLOAD = {"memory.activation_offload": True}
GRAPHS = {"trainer.torch_compile": True, "hardware.torch_compile_mode": "reduce-overhead"}


def options_of(system, *changes):
    return yaml.safe_load(export_settings(Facts(config_of(*changes)), system).text)


def left_out(system, *changes):
    exported = export_settings(Facts(config_of(*changes)), system)
    return {line.setting for line in exported.left_out}


@pytest.mark.parametrize(
    ("system", "changes", "name", "value"),
    [
        ("surogate", FP8, "recipe", "fp8_hybrid"),
        ("surogate", {}, "recipe", None),
        ("axolotl", FP8, "fp8", True),
        ("llama-factory", FP8, "fp8", True),
        ("llama-factory", {}, "fp8", None),
        ("surogate", {**BLOCKS, "quantization.fp8_block_size": "64"}, "qlora_block_size", 64),
        ("surogate", {"quantization.fp8_block_size": "64"}, "qlora_block_size", None),
        ("surogate", FOUR_OVER_SIX, "qlora_four_over_six", True),
        ("trl", VARLEN, "attn_implementation", "sdpa"),
        ("axolotl", VARLEN, "attn_implementation", "sdpa"),
        ("llama-factory", VARLEN, "flash_attn", "sdpa"),
        ("trl", OFFLOAD, "activation_offloading", True),
        ("trl", {}, "activation_offloading", None),
        ("axolotl", OFFLOAD, "activation_offloading", True),
        ("surogate", OFFLOAD, "offload_residual", True),
        ("trl", GRAPHS, "torch_compile_mode", "reduce-overhead"),
        ("trl", {"trainer.torch_compile": True}, "torch_compile_mode", None),
        ("llama-factory", GRAPHS, "torch_compile_mode", "reduce-overhead"),
        ("axolotl", GRAPHS, "torch_compile_mode", "reduce-overhead"),
        ("surogate", GRAPHS, "use_cuda_graphs", True),
        ("surogate", {"trainer.torch_compile": True}, "use_cuda_graphs", False),
        (
            "trl",
            EVERY,
            "gradient_checkpointing_kwargs",
            {"use_reentrant": False, "every_n_layers": 2},
        ),
    ],
)
def test_the_option_of_the_other_system(system, changes, name, value):
    assert options_of(system, changes).get(name) == value


@pytest.mark.parametrize(
    ("system", "changes", "setting"),
    [
        ("trl", FP8, "quantization.fp8_training"),
        (
            "surogate",
            {**BLOCKS, "quantization.fp8_block_size": "16"},
            "quantization.fp8_block_size",
        ),
        (
            "surogate",
            {**FP8, "quantization.fp8_recipe": "rowwise"},
            "quantization.fp8_training",
        ),
        ("trl", {**DPO, **EVERY}, "memory.checkpoint_every_n_layers"),
        ("axolotl", EVERY, "memory.checkpoint_every_n_layers"),
        ("llama-factory", OFFLOAD, "memory.activation_offload"),
        ("axolotl", {**OFFLOAD, "gradient_checkpointing": False}, "memory.activation_offload"),
        ("trl", {"memory.max_vram_fraction": 0.5}, "memory.max_vram_fraction"),
    ],
)
def test_what_the_system_cannot_say_is_listed(system, changes, setting):
    assert setting in left_out(system, changes)
    assert setting not in left_out(system)
