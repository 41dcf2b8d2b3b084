"""4-bit weights on the CPU: a check on held-out rows must not change what is learned after it."""

from __future__ import annotations

from typing import Any

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def test_gradients_are_the_same_before_and_after_an_evaluation(tiny_model):
    import torch
    from peft import get_peft_model

    from modelforge.modeling.adapters.lora import lora_config
    from modelforge.modeling.providers.huggingface import load

    config = TrainingConfig(
        task="text-generation",
        model_name="tiny",
        dataset="rows.jsonl",
        compute_specs="low_end",
        use_4bit=True,
        lora_dropout=0,
    )
    plan = make_plan(config, PlanContext("cpu", str(tiny_model), context=512))
    model: Any = get_peft_model(
        load(plan, config, lambda *_: None).model,
        lora_config(config, plan),  # type: ignore[arg-type]
    )
    ids = torch.tensor([[1, 520, 300, 700, 900, 1000, 42, 17]])

    def gradients() -> list[Any]:
        model.train()
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        return [each.grad.clone() for each in model.parameters() if each.grad is not None]

    before = gradients()
    model.eval()
    with torch.no_grad():
        model(input_ids=ids)
    after = gradients()
    assert len(before) == len(after) > 0
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
