from __future__ import annotations

import csv
from dataclasses import replace

import pytest

from bench.shapes import SHAPES
from modelforge.models.architecture import parameters_by_shape, read_shape
from modelforge.preflight.memory.estimate import (
    CUDA_BUILD_GIB,
    adapter_weights,
    estimate_memory,
    part_gib,
    total_gib,
)
from tests.conftest import ROOT
from tests.preflight.contexts import LAPTOP, LLAMA_8B, ROWS, STARTER, WORKSTATION, make_context

NAMES = ["weights", "adapter", "gradients", "optimizer", "activations", "logits", "overhead"]


def parts_of(machine, info, /, **settings):
    context = make_context(machine, info, **settings)
    parts = estimate_memory(context.config, context.plan, context.model, context.plan.max_length)
    return {part.name: part.gib for part in parts}


def total_of(machine, info, /, **settings):
    return sum(parts_of(machine, info, **settings).values())


def test_every_part_is_named_in_a_fixed_order():
    assert list(parts_of(LAPTOP, STARTER)) == NAMES


def test_muon_keeps_half_of_the_state_of_adamw_for_matrices():
    full = {"adapter": {"enabled": False}, "use_4bit": False}
    adamw = parts_of(WORKSTATION, LLAMA_8B, optim="adamw_torch_fused", **full)["optimizer"]
    for name in ("muon", "normuon"):
        found = parts_of(WORKSTATION, LLAMA_8B, optim=name, **full)["optimizer"]
        tables = LLAMA_8B.embedding_weights / LLAMA_8B.parameters
        assert found == pytest.approx(adamw * (0.5 + 0.5 * tables), rel=0.02)
    with_adapter = parts_of(WORKSTATION, LLAMA_8B, optim="muon")["optimizer"]
    of_adamw = parts_of(WORKSTATION, LLAMA_8B, optim="adamw_torch_fused")["optimizer"]
    assert with_adapter == pytest.approx(of_adamw / 2)


@pytest.mark.parametrize("cuda", ["13.0", "", None])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_torch_built_for_cuda_takes_more_memory_of_a_worker_on_the_cpu(cuda, checkpointing):
    settings = {"gradient_checkpointing": checkpointing}
    usual = make_context(LAPTOP, **settings).memory_total_gib
    context = make_context(replace(LAPTOP, torch_cuda=cuda), **settings)
    more = CUDA_BUILD_GIB if cuda else 0.0
    assert context.memory_total_gib - usual == pytest.approx(more)
    on_gpu = make_context(WORKSTATION, **settings).memory_total_gib
    same = make_context(replace(WORKSTATION, torch_cuda=cuda), **settings).memory_total_gib
    assert same == on_gpu


# As bench/memory.py measured them, at 384 tokens.
@pytest.mark.parametrize(
    ("batch", "checkpointing", "whole", "measured_gib"),
    [
        (4, False, False, 5.275),
        (1, False, False, 2.434),
        (4, True, False, 1.407),
        (4, False, True, 4.86),
        (1, False, True, 3.244),
        (4, True, True, 2.841),
    ],
)
def test_the_starter_on_the_cpu_comes_to_what_a_real_run_needed(
    batch, checkpointing, whole, measured_gib
):
    settings = {
        "per_device_train_batch_size": batch,
        "max_seq_length": 384,
        "gradient_checkpointing": checkpointing,
        "adapter": {"enabled": not whole},
    }
    assert total_of(LAPTOP, STARTER, **settings) == pytest.approx(measured_gib, rel=0.1)


def measured_cells():
    """Return the measured runs of bench/memory.py on shapes that no constant was fitted to."""
    with (ROOT / "bench/results/memory.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["mixed"] == "False"]
    return [row for row in rows if row["shape"] in ("qwen3", "gemma3")]


@pytest.mark.parametrize(
    "cell", measured_cells(), ids=lambda cell: "-".join(list(cell.values())[:5])
)
def test_other_shapes_come_to_what_a_real_run_needed(cell):
    shape = read_shape({"max_position_embeddings": 4096, **SHAPES[cell["shape"]]})
    parameters = parameters_by_shape(shape)
    model = replace(
        STARTER,
        **shape,
        name=cell["shape"],
        parameters=parameters,
        weights_gib=2 * parameters / 2**30,
    )
    settings = {
        "per_device_train_batch_size": int(cell["batch"]),
        "max_seq_length": int(cell["length"]),
        "gradient_checkpointing": cell["recompute"] == "True",
        "use_4bit": cell["way"] == "4-bit",
        "adapter": {"enabled": cell["way"] != "full"},
    }
    expected = pytest.approx(float(cell["peak_gib"]), rel=0.15)
    assert total_of(LAPTOP, model, **settings) == expected


def test_eight_billion_in_4_bit_fit_a_card_of_ten_gib():
    parts = parts_of(WORKSTATION, LLAMA_8B)
    assert parts["weights"] == pytest.approx(5.6, abs=0.1)
    assert 6.5 < sum(parts.values()) < 10


def test_the_adapter_of_the_starter_is_counted_exactly():
    # 4,884,480 trainable parameters is what PEFT prints for rank 16 on all linear layers.
    assert adapter_weights(16, STARTER) == 4_884_480


@pytest.mark.parametrize(
    ("part", "less", "more"),
    [
        ("weights", {"use_4bit": True}, {"use_4bit": False}),
        ("weights", {"use_4bit": True}, {"quantization": {"scheme": "fp8"}}),
        ("weights", {"quantization": {"scheme": "nvfp4"}}, {"quantization": {"scheme": "fp8"}}),
        (
            "weights",
            {"quantization": {"scheme": "int8-weight-only"}},
            {"quantization": {"scheme": "mxfp4"}},
        ),
        ("weights", {}, {"quantization": {"skip_first_layers": 2}}),
        ("weights", {"use_4bit": False}, {"adapter": {"enabled": False}}),
        (
            "weights",
            {"adapter": {"enabled": False}},
            {"adapter": {"enabled": False}, "strategy": "dpo"},
        ),
        ("gradients", {}, {"adapter": {"enabled": False}}),
        ("gradients", {"adapter": {"dtype": "bfloat16"}}, {}),
        ("optimizer", {}, {"adapter": {"enabled": False}}),
        ("optimizer", {"optim": "lion_8bit"}, {"optim": "lion_32bit"}),
        ("optimizer", {"optim": "adafactor"}, {"optim": "lion_8bit"}),
        ("activations", {}, {"strategy": "dpo"}),
        ("weights", {"use_4bit": True, "use_nested_quant": True}, {"use_4bit": True}),
        ("weights", {"use_4bit": True}, {"use_8bit": True}),
        ("weights", {"use_8bit": True}, {"use_4bit": False}),
        ("weights", {"use_4bit": False}, {"use_4bit": False, "hardware": {"precision": "fp32"}}),
        ("adapter", {"lora_r": 8}, {"lora_r": 16}),
        ("gradients", {"lora_r": 8}, {"lora_r": 16}),
        ("optimizer", {"optim": "sgd"}, {"optim": "adamw_8bit"}),
        ("optimizer", {"optim": "adamw_8bit"}, {"optim": "paged_adamw_32bit"}),
        ("activations", {}, {"gradient_checkpointing": False}),
        (
            "activations",
            {"use_4bit": False, "lora_dropout": 0},
            {"lora_dropout": 0, "quantization": {"fp8_training": True}},
        ),
        (
            "activations",
            {"adapter": {"enabled": False}, "quantization": {"fp8_training": True}},
            {"adapter": {"enabled": False}},
        ),
        (
            "weights",
            {"quantization": {"scheme": "nvfp4"}},
            {"quantization": {"scheme": "nvfp4", "four_over_six": True}},
        ),
        ("activations", {}, {"memory": {"checkpoint_every_n_layers": 2}}),
        (
            "activations",
            {"memory": {"checkpoint_every_n_layers": 2}},
            {"gradient_checkpointing": False},
        ),
        ("activations", {"memory": {"activation_offload": True}}, {}),
        (
            "activations",
            {"gradient_checkpointing": False, "memory": {"activation_offload": True}},
            {"gradient_checkpointing": False},
        ),
        ("activations", {"max_seq_length": 512}, {"max_seq_length": 1024}),
        ("activations", {}, {"per_device_train_batch_size": 2}),
        ("activations", {"lora_dropout": 0}, {"lora_dropout": 0.1}),
        ("activations", {}, {"per_device_eval_batch_size": 64}),
        ("activations", {"eval_split": 0}, {"eval_split": 0.1, "per_device_eval_batch_size": 64}),
        (
            "activations",
            {"eval_split": 0, "per_device_eval_batch_size": 64},
            {
                "eval_split": 0,
                "per_device_eval_batch_size": 64,
                "data": {"validation_sources": [{"path": "held-out.jsonl"}]},
            },
        ),
        ("logits", {"max_seq_length": 64}, {"max_seq_length": 512}),
    ],
)
def test_a_setting_that_costs_memory_shows_in_its_part(part, less, more):
    assert (
        parts_of(WORKSTATION, LLAMA_8B, **less)[part]
        < parts_of(WORKSTATION, LLAMA_8B, **more)[part]
    )


def test_logits_do_not_grow_with_the_length_beyond_a_chunk():
    short = parts_of(WORKSTATION, LLAMA_8B, max_seq_length=512)["logits"]
    assert short == parts_of(WORKSTATION, LLAMA_8B, max_seq_length=4096)["logits"]


def test_short_rows_need_less_than_the_longest_that_is_allowed():
    known = make_context(WORKSTATION, LLAMA_8B, replace(ROWS, longest_chars=304)).formula_parts
    allowed = parts_of(WORKSTATION, LLAMA_8B)
    assert part_gib(known, "activations") < allowed["activations"]


def test_packed_rows_are_as_long_as_allowed_whatever_the_rows():
    rows = replace(ROWS, longest_chars=304)
    known = make_context(WORKSTATION, LLAMA_8B, rows, packing=True).formula_parts
    allowed = parts_of(WORKSTATION, LLAMA_8B, packing=True)
    assert {part.name: part.gib for part in known} == allowed


def test_weights_stored_in_4_bit_count_as_such_whatever_is_asked():
    stored = replace(LLAMA_8B, quantization="4-bit")
    assert parts_of(WORKSTATION, stored, use_4bit=False)["weights"] < 6


@pytest.mark.parametrize("lacks", [{"parameters": None}, {"layers": None}, {"heads": None}])
def test_an_unknown_shape_gives_no_estimate(lacks):
    context = make_context(LAPTOP, replace(STARTER, **lacks))
    assert context.memory == []
    assert total_gib(context.memory) is None


def test_training_every_weight_takes_sixteen_bytes_of_each_with_adam():
    parts = parts_of(WORKSTATION, STARTER, adapter={"enabled": False}, optim="adamw_torch")
    held = parts["weights"] + parts["gradients"] + parts["optimizer"]
    assert held * 2**30 == pytest.approx(16 * STARTER.parameters)
    assert parts["adapter"] == 0


def test_the_layers_that_are_named_are_the_ones_that_count():
    # Rank 16 on two matrices of 576 x 576 and 576 x 192 in 30 layers.
    trained = parts_of(LAPTOP, STARTER, adapter={"target_modules": "q_proj, v_proj"})["adapter"]
    assert trained * 2**30 == 4 * 30 * 16 * (576 + 576 + 576 + 192)
    whole = parts_of(LAPTOP, STARTER, adapter={"modules_to_save": "lm_head"})["adapter"]
    assert whole * 2**30 == 4 * (4_884_480 + 49152 * 576)
    unknown = parts_of(LAPTOP, STARTER, adapter={"target_modules": "Wqkv"})["adapter"]
    assert unknown == parts_of(LAPTOP, STARTER)["adapter"]


def test_a_reference_that_was_asked_beforehand_is_not_kept():
    settings = {"strategy": "dpo", "adapter": {"enabled": False}}
    kept = parts_of(LAPTOP, STARTER, **settings)["weights"]
    gone = parts_of(LAPTOP, STARTER, **settings, trainer={"precompute_ref_log_probs": True})[
        "weights"
    ]
    assert gone < kept


def test_a_scaled_context_takes_the_memory_of_its_longer_rows():
    short = replace(STARTER, context=1024)
    settings = {"packing": True, "max_seq_length": None}
    scaled = {**settings, "model": {"rope_type": "yarn", "rope_factor": 4}}
    assert make_context(LAPTOP, short, **scaled).plan.max_length == 4096
    assert total_of(LAPTOP, short, **scaled) > total_of(LAPTOP, short, **settings)


def test_weights_in_bfloat16_halve_weights_gradients_and_state():
    full = {"adapter": {"enabled": False}, "use_4bit": False, "optim": "adamw_torch_fused"}
    usual = parts_of(WORKSTATION, STARTER, **full)
    halved = parts_of(WORKSTATION, STARTER, **full, model={"dtype": "bfloat16"})
    for name in ("weights", "gradients", "optimizer"):
        assert halved[name] == pytest.approx(usual[name] / 2)
    assert halved["activations"] < usual["activations"], "autocast has nothing to copy"


def test_frozen_weights_in_float32_take_twice_the_memory():
    plain = parts_of(WORKSTATION, STARTER, use_4bit=False)
    held = parts_of(WORKSTATION, STARTER, use_4bit=False, model={"dtype": "float32"})
    assert held["weights"] == 2 * plain["weights"]
