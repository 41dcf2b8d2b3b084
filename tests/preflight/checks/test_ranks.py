"""What several GPUs can train and divide, and what is refused in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.errors import Finding
from modelforge.preflight.checks.run import run_checks
from modelforge.preflight.suggest.fit import search_fit
from modelforge.units import GIB
from tests.preflight.contexts import LAPTOP, LLAMA_8B, WORKSTATION, make_context

CARD = WORKSTATION.gpus[0]
FOUR = replace(WORKSTATION, gpus=[replace(CARD, index=index) for index in range(4)])
TWO_NODES = replace(FOUR, nodes=2)
FULL = {"adapter": {"enabled": False}, "use_4bit": False}
KTO = {"strategy": "dpo", "trainer": {"preference_loss": "kto"}}


def hardware(gpus: int = 2, sharding: str = "none", **more: object) -> dict[str, object]:
    return {"hardware": {"gpus": gpus, "sharding": sharding, **more}}


def finding(context, code: str) -> Finding | None:
    found = run_checks(context, search_fit(context))
    return next((each for each in found if each.code == code), None)


FSDP2, ZERO3 = hardware(sharding="fsdp2"), hardware(sharding="zero3")
ROWS = {"use_4bit": False}
CASES = [
    ("gpus-missing", 4, make_context(FOUR, **hardware(5))),
    ("gpus-missing", 2, make_context(FOUR, **hardware(4, gpu_index=2))),
    ("gpus-missing", 4, make_context(TWO_NODES, **hardware(6))),
    ("nodes-not-filled", 4, make_context(TWO_NODES, **hardware(3))),
    ("nodes-not-filled", 4, make_context(replace(LAPTOP, nodes=4), **hardware(2))),
    ("gpus-impossible", 1, make_context(FOUR, **hardware(), strategy="rlhf")),
    ("gpus-impossible", 1, make_context(FOUR, **hardware(), **KTO)),
    ("gpus-impossible", 1, make_context(FOUR, **hardware(), privacy={"enabled": True})),
    ("gpus-impossible", 1, make_context(FOUR, **hardware(), provider="unsloth")),
    ("gpus-impossible", 1, make_context(FOUR, **hardware(), progressive={"enabled": True}, **FULL)),
    ("gpus-impossible", 1, make_context(replace(FOUR, system="Windows 11"), **hardware())),
    ("sharding-impossible", "ddp", make_context(FOUR, **FSDP2, use_4bit=True)),
    ("sharding-impossible", "ddp", make_context(FOUR, **FSDP2, **ROWS, strategy="dpo")),
    ("sharding-impossible", "ddp", make_context(FOUR, **FSDP2, **ROWS, optim="adafactor")),
    ("sharding-impossible", "ddp", make_context(FOUR, **ZERO3, use_4bit=True)),
    ("sharding-impossible", "ddp", make_context(LAPTOP, **ZERO3, **ROWS)),
    ("deepspeed-missing", "fsdp2", make_context(FOUR, **ZERO3, **ROWS)),
    ("rows-not-shared", 6, make_context(FOUR, **hardware(3))),
    ("sequence-not-shared", 1, make_context(FOUR, **hardware(4, sequence_parallel_size=2))),
]
FINE = [
    ("gpus-missing", make_context(FOUR, **hardware(4))),
    ("gpus-missing", make_context(LAPTOP, **hardware(2))),
    ("nodes-not-filled", make_context(TWO_NODES, **hardware(4))),
    ("nodes-not-filled", make_context(TWO_NODES)),
    ("gpus-impossible", make_context(FOUR, **hardware())),
    ("gpus-impossible", make_context(FOUR, strategy="rlhf")),
    ("sharding-impossible", make_context(FOUR, **FSDP2, **ROWS)),
    ("sharding-impossible", make_context(LAPTOP, **FSDP2, **ROWS)),
    ("sharding-impossible", make_context(FOUR, **FSDP2, **ROWS, packing=True)),
    ("sharding-impossible", make_context(FOUR, **hardware(sharding="zero2"), use_4bit=True)),
    ("sharding-impossible", make_context(FOUR, **hardware(), use_4bit=True, strategy="dpo")),
    ("deepspeed-missing", make_context(replace(FOUR, packages=("deepspeed",)), **ZERO3, **ROWS)),
    ("rows-not-shared", make_context(FOUR, **hardware(4))),
    (
        "rows-not-shared",
        make_context(
            FOUR, **hardware(4), per_device_train_batch_size=4, gradient_accumulation_steps=2
        ),
    ),
    (
        "sequence-not-shared",
        make_context(FOUR, **hardware(4, "fsdp2", sequence_parallel_size=2), **ROWS),
    ),
]


@pytest.mark.parametrize(("code", "value", "context"), CASES)
def test_what_cannot_be_divided_is_refused_with_a_remedy(code, value, context):
    found = finding(context, code)
    assert found is not None
    assert found.level == "blocker"
    assert found.suggested == value
    assert found.what.endswith(".")
    assert found.remedy.endswith(".")
    # The remedy resolves it.
    changed = context.with_settings({found.where: found.suggested})
    assert finding(changed, code) is None


@pytest.mark.parametrize(("code", "context"), FINE)
def test_what_can_be_divided_is_not_refused(code, context):
    assert finding(context, code) is None


def test_a_model_for_each_gpu_must_fit_while_it_is_loaded():
    machine = replace(FOUR, ram_free_gib=40.0)
    many = finding(
        make_context(machine, LLAMA_8B, **hardware(4, "fsdp2"), **ROWS), "loading-memory"
    )
    assert "59.8 GiB together; the computer has 40.0 GiB free" in many.what
    # Each of two nodes holds two models.
    nodes = make_context(replace(machine, nodes=2), LLAMA_8B, **hardware(4, "fsdp2"), **ROWS)
    assert finding(nodes, "loading-memory") is None
    two = make_context(machine, LLAMA_8B, **hardware(2, "fsdp2"), **ROWS)
    assert finding(two, "loading-memory") is None
    whole = make_context(machine, LLAMA_8B, **hardware(4, "ddp"), **ROWS)
    assert finding(whole, "loading-memory") is None


def test_a_last_step_that_differs_is_noted():
    assert finding(make_context(FOUR, **hardware(), strategy="dpo"), "last-step-repeats")
    assert finding(make_context(FOUR, **hardware()), "last-step-repeats") is None


def parts(sharding: str, gpus: int = 4) -> dict[str, float]:
    context = make_context(FOUR, LLAMA_8B, **hardware(gpus, sharding), **FULL, bf16=True)
    return {part.name: part.gib for part in context.memory}


def test_each_gpu_holds_its_share():
    one, ddp, zero1, zero2 = parts("none", 1), parts("ddp"), parts("zero1"), parts("zero2")
    whole = parts("fsdp2")
    assert ddp["weights"] == one["weights"]
    # Gradients are copied into buffers that are sent.
    assert ddp["gradients"] == pytest.approx(2 * one["gradients"])
    assert zero1["optimizer"] == pytest.approx(one["optimizer"] / 4, rel=0.3)
    assert zero1["gradients"] == one["gradients"]
    assert zero2["gradients"] == pytest.approx(one["gradients"] / 4)
    # Two layers and the embeddings are whole while they are computed.
    layer = LLAMA_8B.linear_weights / LLAMA_8B.layers
    held = (2 * layer + LLAMA_8B.embedding_weights) * 2 / GIB
    assert whole["weights"] == pytest.approx(one["weights"] / 4 + held)
    assert whole == pytest.approx(parts("zero3"))


def test_more_gpus_take_less_time_and_read_the_same_rows():
    from modelforge.preflight.speed import estimate_step

    one = estimate_step(make_context(FOUR, LLAMA_8B, **ROWS))
    four = estimate_step(make_context(FOUR, LLAMA_8B, **hardware(4), **ROWS))
    assert four.useful == pytest.approx(one.useful)
    assert one.seconds / 4 < four.seconds < one.seconds


def test_processes_on_the_cpu_share_its_memory():
    one, both = make_context(LAPTOP), make_context(LAPTOP, **hardware())
    assert both.available_gib == pytest.approx(one.available_gib / 2)
    apart = make_context(replace(LAPTOP, nodes=2), **hardware())
    assert apart.available_gib == one.available_gib
