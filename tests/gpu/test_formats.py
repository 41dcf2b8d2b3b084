"""Number formats, schemes and attention on the card: what it has tensor cores for, and what not."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.gpu

BF16_FROM, FP8_FROM, FP4_FROM, FLASH_FROM = (8, 0), (8, 9), (10, 0), (8, 0)
# scheme → the capability it is worth something from, and the package that does it
SCHEMES = {
    "fp8": (FP8_FROM, None),
    "fp8-weight-only": (None, "torchao"),
    "int8-weight-only": (None, "torchao"),
    "nvfp4": (FP4_FROM, "torchao"),
}
FLASH = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}


def need(card, capability=None, package=None):
    """Skip, with the reason, where the card or a package is missing."""
    if capability and (card.compute_capability or (0, 0)) < capability:
        has, wants = (".".join(map(str, two)) for two in (card.compute_capability, capability))
        pytest.skip(f"{card.name} has compute capability {has}; this wants {wants}")
    if package and not find_spec(package):
        pytest.skip(f"{package} is not installed")


@pytest.mark.parametrize("strategy", ["sft", "qlora"])
@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_a_precision_takes_a_step(runs, measured, card, precision, strategy):
    need(card, BF16_FROM if precision == "bf16" else None)
    settings = {"strategy": strategy, "use_4bit": strategy == "qlora"}
    ended = runs.one_step(hardware={"precision": precision}, **settings)
    measured(f"huggingface, {strategy}, {precision}", ended)
    assert ended.events["plan"][-1]["precision"] == precision


def test_auto_takes_what_the_card_is_best_at(runs, measured, card):
    ended = runs.one_step()
    measured("huggingface, sft, precision auto", ended)
    best = "bf16" if card.compute_capability >= BF16_FROM else "fp16"
    assert ended.events["plan"][-1]["precision"] == best


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True])
def test_the_kinds_of_four_bits_take_a_step(runs, measured, kind, nested):
    settings = {"use_4bit": True, "bnb_4bit_quant_type": kind, "use_nested_quant": nested}
    ended = runs.one_step(strategy="qlora", optim="paged_adamw_32bit", **settings)
    measured(f"huggingface, qlora, {kind}{', nested' if nested else ''}, paged optimizer", ended)


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_a_scheme_takes_a_step(runs, measured, card, scheme):
    need(card, *SCHEMES[scheme])
    ended = runs.one_step(quantization={"scheme": scheme})
    measured(f"huggingface, sft, {scheme}", ended)
    assert ended.events["plan"][-1]["quantization"] == scheme


@pytest.mark.parametrize("attention", ["sdpa", "eager", *FLASH])
def test_an_attention_takes_a_step(runs, measured, card, attention):
    if attention in FLASH:
        need(card, FLASH_FROM, FLASH[attention])
    if attention == "flash_attention_3" and (card.compute_capability or (0, 0))[0] != 9:
        pytest.skip(f"flash_attention_3 is for compute capability 9.0; this is {card.name}")
    ended = runs.one_step(bf16=True, model={"attn_implementation": attention})
    measured(f"huggingface, sft, {attention}", ended)
    stored = json.loads(ended.run.config.read_text(encoding="utf-8"))
    assert stored["plan"]["attn_implementation"] == attention


def test_a_compiled_model_takes_a_step(runs, measured):
    need(runs.card, package="triton")
    if not (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")):
        pytest.skip("there is no C compiler")
    ended = runs.one_step(torch_compile=True)
    measured("huggingface, sft, torch.compile", ended)
    stored = json.loads(ended.run.config.read_text(encoding="utf-8"))
    assert stored["plan"]["torch_compile"] is True
