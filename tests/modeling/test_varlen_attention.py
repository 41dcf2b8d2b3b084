"""Rows that lie end to end see only themselves, without a mask; the kernel is played on the CPU."""

from __future__ import annotations

from typing import Any

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

REQUIRED = {
    "task": "text-generation",
    "model_name": "tiny",
    "dataset": "rows.jsonl",
    "compute_specs": "low_end",
    "use_4bit": False,
    "model": {"attn_implementation": "varlen"},
}
LENGTHS = (5, 1, 9, 3)


@pytest.fixture
def kernel(monkeypatch):
    """The kernel, document by document; its list has the window and the longest document."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    from modelforge.modeling import varlen_attention

    calls = []

    def played(query, key, value, bounds, _bounds, longest, _longest, **options):
        calls.append((options["window_size"], longest))
        assert query.dtype == key.dtype == value.dtype
        before, after = options["window_size"]
        output = torch.empty_like(query)
        for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            place = torch.arange(end - start)
            distance = place[:, None] - place[None, :]
            seen = (distance >= 0) if after == 0 else torch.ones_like(distance, dtype=torch.bool)
            seen = seen & (distance <= before) if before >= 0 else seen
            parts = (part[start:end].transpose(0, 1)[None] for part in (query, key, value))
            found = scaled_dot_product_attention(
                *parts, attn_mask=seen, scale=options["scale"], enable_gqa=options["enable_gqa"]
            )
            output[start:end] = found[0].transpose(0, 1)
        return output

    monkeypatch.setattr(varlen_attention.varlen, "varlen_attn", played)
    return calls


def tiny(family: str = "Llama", **settings: Any) -> Any:
    import torch
    import transformers

    usual = {
        "vocab_size": 60,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**usual | settings)
    return getattr(transformers, f"{family}ForCausalLM")(config)


def packed() -> dict[str, Any]:
    import torch

    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    ids = torch.randint(0, 60, (1, sum(LENGTHS)), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "position_ids": positions, "labels": ids}


def loss_and_gradient(model: Any, **inputs: Any) -> tuple[Any, Any]:
    model.zero_grad()
    loss = model(**inputs, use_cache=False).loss
    loss.backward()
    return loss.detach(), model.model.layers[0].self_attn.q_proj.weight.grad.clone()


def test_bounds_are_where_positions_begin_again():
    import torch

    from modelforge.modeling.varlen_attention import document_bounds

    bounds, longest = document_bounds(packed()["position_ids"][0])
    assert bounds.tolist() == [0, 5, 6, 15, 18]
    assert bounds.dtype == torch.int32
    assert longest == 9
    assert document_bounds(torch.arange(7))[0].tolist() == [0, 7]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("family", "settings", "window"),
    [
        ("Llama", {}, -1),
        ("Qwen3", {"head_dim": 8}, -1),
        ("Mistral", {"sliding_window": 4}, 3),
    ],
)
def test_packed_rows_have_the_loss_of_sdpa_with_its_mask(
    kernel, family, settings, window, checkpointing
):
    import torch

    from modelforge.modeling.varlen_attention import use_varlen_attention

    model = tiny(family, **settings).train()
    expected = loss_and_gradient(model, **packed())
    assert use_varlen_attention(model) == ""
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    found = loss_and_gradient(model, **packed())
    assert kernel == [((window, 0), 9)] * (4 if checkpointing else 2)
    assert torch.allclose(found[0], expected[0], atol=1e-6)
    assert torch.allclose(found[1], expected[1], atol=1e-6)


def test_padded_batches_and_generation_are_those_of_sdpa(kernel):
    import torch

    from modelforge.modeling.varlen_attention import use_varlen_attention

    model = tiny().eval()
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).logits
        answer = model.generate(ids[:1], max_new_tokens=6, do_sample=False)
        assert use_varlen_attention(model) == ""
        found = model(input_ids=ids, attention_mask=mask).logits
        assert torch.allclose(found[mask.bool()], expected[mask.bool()], atol=1e-6)
        assert not kernel
        assert torch.equal(model.generate(ids[:1], max_new_tokens=6, do_sample=False), answer)
        assert all(longest == 4 for _, longest in kernel)


def test_a_layer_that_is_not_told_positions_is_an_error(kernel, monkeypatch):
    from transformers.models.llama.modeling_llama import LlamaAttention

    from modelforge.modeling.varlen_attention import use_varlen_attention

    model = tiny()
    assert use_varlen_attention(model) == ""
    forward = LlamaAttention.forward

    def without_positions(*args, position_ids=None, **more):
        return forward(*args, **more)

    monkeypatch.setattr(LlamaAttention, "forward", without_positions)
    with pytest.raises(ValueError, match="not told the positions"):
        model(**packed(), use_cache=False)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"attention_dropout": 0.1}, "drops out"),
        ({"head_dim": 512}, "more than 256"),
    ],
)
def test_a_model_that_needs_more_keeps_sdpa(settings, reason):
    from modelforge.modeling.varlen_attention import use_varlen_attention

    model = tiny(**settings)
    before = model.config._attn_implementation
    assert reason in use_varlen_attention(model)
    assert model.config._attn_implementation == before == "sdpa"


@pytest.mark.parametrize(
    ("device", "capability", "settings", "reason"),
    [
        ("cuda", (8, 6), {"packing": True, "bf16": True}, ""),
        ("cuda", (8, 6), {"data": {"padding_free": True}, "bf16": True}, ""),
        ("cuda", (8, 6), {"bf16": True}, "end to end"),
        (
            "cuda",
            (8, 6),
            {"packing": True, "data": {"packing_strategy": "wrapped"}, "bf16": True},
            "end to end",
        ),
        ("cuda", (7, 5), {"packing": True, "fp16": True}, "8.0 or higher"),
        ("cuda", (8, 6), {"packing": True, "hardware": {"precision": "fp32"}}, "fp32"),
        ("cpu", None, {"packing": True}, "NVIDIA"),
    ],
)
def test_varlen_is_planned_where_it_runs(device, capability, settings, reason):
    config = TrainingConfig.from_record(REQUIRED | settings)
    plan = make_plan(config, PlanContext(device, "tiny", compute_capability=capability))
    assert plan.attn_implementation == ("sdpa" if reason else "varlen")
    reasons = [c.reason for c in plan.changes if c.where == "model.attn_implementation"]
    assert [reason in text for text in reasons] == ([True] if reason else [])


def test_a_loaded_model_uses_it_or_says_why_not(tiny_model):
    from transformers import AutoConfig, AutoModelForCausalLM

    from modelforge.modeling.providers.huggingface import load

    config = TrainingConfig.from_record(REQUIRED | {"packing": True})
    from dataclasses import replace

    plan = make_plan(config, PlanContext("cpu", str(tiny_model), context=512))
    plan = replace(plan, attn_implementation="varlen")
    loaded = load(plan, config, lambda _done, _total: None)
    assert loaded.model.config._attn_implementation == "varlen"
    assert loaded.notes == []
    assert AutoConfig.from_pretrained(tiny_model)._attn_implementation != "varlen"
    assert AutoModelForCausalLM.from_pretrained(tiny_model).config._attn_implementation == "sdpa"
