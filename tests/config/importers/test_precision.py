"""Options of other systems about precision, memory and compilation."""

from __future__ import annotations

import pytest

from modelforge.config.importers.read import import_settings
from modelforge.config.resolve import flatten
from tests.config.importers.examples import line_of, settings_of

# A file of each system without anything else that matters here.
FILES = {
    "surogate": "model: acme/oak\nsequence_len: 512\n",
    "trl": "model_name_or_path: acme/oak\nlearning_rate: 0.0001\n",
    "axolotl": "base_model: acme/oak\ndatasets:\n  - path: acme/rows\n    type: alpaca\n",
    "llama-factory": "model_name_or_path: acme/oak\nstage: sft\nfinetuning_type: lora\n",
    "safe-synthesizer": "training:\n  pretrained_model: acme/oak\n",
}
EVERY, OFFLOAD = "memory.checkpoint_every_n_layers", "memory.activation_offload"
MODE, COMPILE = "hardware.torch_compile_mode", "trainer.torch_compile"
FP8, RECIPE = "quantization.fp8_training", "quantization.fp8_recipe"
BLOCK, FOUR = "quantization.fp8_block_size", "quantization.four_over_six"
VRAM = "memory.max_vram_fraction"
CASES = [
    ("surogate", "offload_residual: true\n", {OFFLOAD: True}),
    ("surogate", "", {OFFLOAD: False, MODE: None}),
    ("surogate", "use_cuda_graphs: true\n", {COMPILE: True, MODE: "reduce-overhead"}),
    ("surogate", "use_cuda_graphs: true\nqlora_bnb: true\n", {COMPILE: None, MODE: None}),
    ("surogate", "use_cuda_graphs: false\n", {COMPILE: None}),
    ("surogate", "recipe: fp8_hybrid\n", {FP8: True, RECIPE: "tensorwise"}),
    ("surogate", "recipe: fp8-hybrid\n", {FP8: True}),
    ("surogate", "recipe: bf16\n", {FP8: False, "hardware.precision": "bf16"}),
    ("surogate", "recipe: nvfp4\n", {FP8: None}),
    ("surogate", "recipe: fp8_hybrid\nqlora_bnb: true\n", {FP8: None}),
    ("surogate", "qlora_fp8: true\nqlora_block_size: 64\n", {BLOCK: "64"}),
    ("surogate", "qlora_block_size: 64\n", {BLOCK: "auto"}),
    ("surogate", "qlora_fp4: true\nqlora_four_over_six: true\n", {FOUR: True}),
    ("surogate", "qlora_four_over_six: true\n", {FOUR: False}),
    ("axolotl", "fp8: true\n", {FP8: True}),
    ("llama-factory", "fp8: true\n", {FP8: True}),
    ("trl", "activation_offloading: true\n", {OFFLOAD: True}),
    (
        "trl",
        "gradient_checkpointing_kwargs:\n  every_n_layers: 3\n  offload: true\n",
        {EVERY: 3, OFFLOAD: True},
    ),
    ("trl", "gradient_checkpointing_kwargs:\n  use_reentrant: false\n", {EVERY: None}),
    ("trl", "torch_compile_mode: max-autotune\n", {COMPILE: True, MODE: "max-autotune"}),
    ("axolotl", "activation_offloading: legacy\n", {OFFLOAD: True}),
    ("axolotl", "activation_offloading: disk\n", {OFFLOAD: True}),
    ("axolotl", "activation_offloading: false\n", {OFFLOAD: False}),
    ("axolotl", "gradient_checkpointing: offload\n", {OFFLOAD: True}),
    (
        "axolotl",
        "torch_compile_mode: reduce-overhead\n",
        {COMPILE: True, MODE: "reduce-overhead"},
    ),
    ("safe-synthesizer", "  max_vram_fraction: 0.5\n", {VRAM: 0.5}),
    ("safe-synthesizer", "", {VRAM: 0.8}),
]


@pytest.mark.parametrize(("system", "lines", "expected"), CASES)
def test_what_an_option_becomes(system, lines, expected):
    found = settings_of(FILES[system] + lines, system)
    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("system", "lines", "option", "result"),
    [
        ("surogate", "offload_residual: true\n", "offload_residual", "renamed"),
        ("surogate", "recipe: nvfp4\n", "recipe", "refused"),
        ("surogate", "recipe: fp8_hybrid\nqlora_bnb: true\n", "recipe", "refused"),
        ("surogate", "use_cuda_graphs: true\nqlora_bnb: true\n", "use_cuda_graphs", "no-effect"),
        ("trl", "activation_offloading: true\n", "activation_offloading", "renamed"),
        ("axolotl", "activation_offloading: disk\n", "activation_offloading", "converted"),
        (
            "trl",
            "gradient_checkpointing_kwargs:\n  determinism_check: none\n",
            "gradient_checkpointing_kwargs",
            "refused",
        ),
    ],
)
def test_the_report_says_what_was_done(system, lines, option, result):
    imported = import_settings(FILES[system] + lines, "file.yaml", system).imported
    assert line_of(imported, option).result == result


def test_nanochat_multiplies_in_fp8_by_the_recipe():
    def recipe_of(arguments):
        text = f"python -m scripts.base_train --depth=6 {arguments}"
        return flatten(import_settings(text, "the command").imported.recipe)

    found = recipe_of("--fp8 --fp8-recipe=rowwise")
    assert (found[FP8], found[RECIPE]) == (True, "rowwise")
    assert recipe_of("")[FP8] is False
