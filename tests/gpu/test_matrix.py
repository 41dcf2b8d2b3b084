"""Every allowed cell of task, strategy, kind of model and bits takes one update on the card."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

pytestmark = pytest.mark.gpu

WAYS = (
    ("text-generation", "sft", "decoder"),
    ("text-generation", "qlora", "decoder"),
    ("text-generation", "dpo", "decoder"),
    ("text-generation", "rlhf", "decoder"),
    ("summarization", "sft", "decoder"),
    ("summarization", "qlora", "decoder"),
    ("summarization", "sft", "encoder-decoder"),
    ("summarization", "qlora", "encoder-decoder"),
    ("extractive-question-answering", "sft", "decoder"),
    ("extractive-question-answering", "qlora", "decoder"),
    ("extractive-question-answering", "sft", "encoder"),
    ("extractive-question-answering", "qlora", "encoder"),
)
BITS: dict[str, dict[str, Any]] = {
    "4-bit": {"use_4bit": True},
    "8-bit": {"use_8bit": True},
    "16-bit": {},
    "full": {"adapter": {"enabled": False}},
}
SHORT = {"num_generations": 2, "max_completion_length": 8}


def answers(task: str, strategy: str, bits: str) -> dict[str, Any]:
    """Return what is said of a cell."""
    settings = {"task": task, "strategy": strategy, **BITS[bits]}
    return settings | ({"trainer": SHORT} if strategy == "rlhf" else {})


CELLS = [
    (*way, bits)
    for way, bits in product(WAYS, BITS)
    if way[1] != "qlora" or bits in ("4-bit", "8-bit")
]


def test_there_are_cells() -> None:
    assert len(CELLS) >= 4


@pytest.mark.parametrize(("task", "strategy", "kind", "bits"), CELLS)
def test_a_cell_takes_a_step_on_the_card(runs, measured, task, strategy, kind, bits):
    ended = runs.one_step(kind, **answers(task, strategy, bits))
    measured(f"huggingface, {task}, {strategy}, {kind}, {bits}", ended)
    stored = bits if bits in ("4-bit", "8-bit") else "none"
    assert ended.events["plan"][-1]["quantization"] == stored
