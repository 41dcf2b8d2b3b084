"""The provider unsloth on the card: each strategy it is for, in every width, one update each."""

from __future__ import annotations

import pytest

from modelforge.preflight.checks.provider import unsloth_status
from tests.gpu.test_matrix import BITS

pytestmark = pytest.mark.gpu

CELLS = [
    (strategy, bits)
    for strategy in ("sft", "qlora", "dpo")
    for bits in BITS
    if strategy != "qlora" or bits in ("4-bit", "8-bit")
]


@pytest.fixture
def with_unsloth(runs, machine, card):
    standing = unsloth_status(machine, card)
    if standing.state != "ready":
        pytest.skip(standing.message)
    return runs


@pytest.mark.parametrize(("strategy", "bits"), CELLS)
def test_a_cell_takes_a_step_with_unsloth(with_unsloth, measured, strategy, bits):
    ended = with_unsloth.one_step(
        provider="unsloth", strategy=strategy, gradient_checkpointing=True, **BITS[bits]
    )
    measured(f"unsloth, text-generation, {strategy}, decoder, {bits}", ended)
    assert strategy == "dpo" or ended.events["step"][-1]["tokens"] > 0


def test_the_adapter_of_unsloth_opens_with_plain_peft(with_unsloth, measured, models):
    ended = with_unsloth.one_step(provider="unsloth", strategy="sft", lora_dropout=0.0)
    measured("unsloth, text-generation, sft, no dropout", ended)
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(models["decoder"])
    opened = PeftModel.from_pretrained(base, ended.run.output)
    assert opened.peft_config["default"].r == 8


def test_nothing_is_asked_of_the_network(with_unsloth, models):
    """A model folder is trained with the Hub forbidden; Unsloth must not mind."""
    ended = with_unsloth.one_step(provider="unsloth", strategy="sft")
    log = ended.run.log.read_text(encoding="utf-8", errors="replace")
    assert not ended.failure, ended.failure
    assert "HuggingFace seems to be down" not in log
