"""The formula of what a block keeps, against what the code that trains does keep."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product

import pytest

from modelforge.models.architecture import read_shape
from modelforge.preflight.memory.block import block_bytes
from modelforge.preflight.memory.estimate import activations, logits
from tests.preflight.contexts import STARTER
from tests.train.memory_trace.test_trace import planned

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

SHORT, LONG = 1024, 2048
FEW, MANY = 2, 4
WIDTHS = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 64,
}
# Its plan is that of a GPU.
VARLEN = {"model": {"attn_implementation": "varlen"}, "device": "cuda", "bf16": True}
WAYS = {
    "whole": {"adapter": {"enabled": False}},
    "lora": {"lora_dropout": 0.0},
    "dropout": {"lora_dropout": 0.05},
    "fp8": {"lora_dropout": 0.0, "quantization": {"fp8_training": True}},
    "fp8-dropout": {"lora_dropout": 0.05, "quantization": {"fp8_training": True}},
    "fp8-whole": {"adapter": {"enabled": False}, "quantization": {"fp8_training": True}},
    "dora": {"adapter": {"use_dora": True}, "lora_dropout": 0.05},
}
PLACES = [("cpu", "fp32"), ("cpu", "bf16"), ("cuda", "fp32"), ("cuda", "bf16")]


def shaped(folder, kind, layers, vocab=500):
    from transformers import AutoConfig

    settings = {
        **WIDTHS,
        "vocab_size": vocab,
        "num_hidden_layers": layers,
        "tie_word_embeddings": True,
    }
    AutoConfig.for_model(kind, max_position_embeddings=8192, **settings).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("device", "precision"), PLACES)
@pytest.mark.parametrize(("kind", "way"), list(product(("llama", "qwen3"), WAYS)))
def test_a_block_keeps_what_the_formula_says(tmp_path, kind, way, device, precision):
    """Blocks times tokens are told from all else by a difference of differences."""
    from modelforge.train.memory_trace.trace import trace

    settings = {
        "optim": "sgd",
        "max_seq_length": LONG,
        "per_device_train_batch_size": 1,
        "eval_split": 0,
        "hardware": {"device": device, "precision": precision},
        **WAYS[way],
    }
    kept = {}
    for layers in (FEW, MANY):
        path = shaped(tmp_path / str(layers), kind, layers)
        config, plan = planned(path, device=device, **settings)
        assert plan.precision == precision
        for length in (SHORT, LONG):
            kept[layers, length] = trace(config, plan, length)["parts"]["activations"]
    more = kept[MANY, LONG] - kept[MANY, SHORT] - kept[FEW, LONG] + kept[FEW, SHORT]
    raw = json.loads((tmp_path / str(FEW) / "config.json").read_text("utf-8"))
    facts = replace(STARTER, **read_shape(raw))
    block = block_bytes(config, plan, facts, LONG)
    assert block == pytest.approx(more / (MANY - FEW) / (LONG - SHORT), rel=0.03)


@pytest.mark.parametrize(
    ("rows", "more"),
    [
        (4, {}),
        (4, {"data": {"padding_free": True}}),
        (1, {"data": {"padding_free": True}}),
        (2, {"packing": True}),
        (2, {"packing": True, "data": {"packing_strategy": "wrapped"}}),
        (4, {"data": {"padding_free": True}, **VARLEN}),
        (2, {"packing": True, **VARLEN}),
    ],
)
def test_a_mask_is_kept_where_rows_have_to_be_separated(tmp_path, rows, more):
    from modelforge.train.memory_trace.trace import trace

    kept, settings = {}, {"optim": "sgd", "per_device_train_batch_size": rows, "lora_dropout": 0.0}
    for layers in (FEW, MANY):
        path = shaped(tmp_path / str(layers), "llama", layers)
        config, plan = planned(path, max_seq_length=512, eval_split=0, **settings, **more)
        kept[layers] = trace(config, plan, 512)["parts"]["activations"]
    raw = json.loads((tmp_path / str(FEW) / "config.json").read_text("utf-8"))
    block = block_bytes(config, plan, replace(STARTER, **read_shape(raw)), 512)
    assert block == pytest.approx((kept[MANY] - kept[FEW]) / (MANY - FEW) / (rows * 512), rel=0.03)


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "dpo"},
        {"strategy": "dpo", "trainer": {"preference_loss": "kto"}},
        {"strategy": "dpo", "trainer": {"preference_loss": "orpo"}},
        {"strategy": "rlhf", "trainer": {"max_completion_length": 64}},
    ],
)
def test_answers_are_compared_by_all_their_logits(tmp_path, settings):
    from modelforge.train.memory_trace.trace import trace

    path = shaped(tmp_path, "llama", FEW, vocab=50_000)
    rows = {"per_device_train_batch_size": 2, "per_device_eval_batch_size": 1}
    config, plan = planned(path, max_seq_length=256, **rows, **settings)
    facts = replace(STARTER, **read_shape(json.loads((path / "config.json").read_text("utf-8"))))
    found = trace(config, plan, 256)["parts"]["logits"]
    assert logits(config, plan, facts, 256) == pytest.approx(found, rel=0.03)


def test_recomputation_keeps_one_block_and_what_goes_into_each():
    config, plan = planned("tiny", gradient_checkpointing=True, eval_split=0)
    every = config.with_changes({"gradient_checkpointing": False})
    again, once = (activations(one, plan, STARTER, 256) for one in (config, every))
    assert again < once / 5


@pytest.mark.parametrize(
    "settings",
    [
        {"memory": {"checkpoint_every_n_layers": 2}},
        {"memory": {"activation_offload": True}},
        {"memory": {"activation_offload": True, "checkpoint_every_n_layers": 2}},
        {"memory": {"activation_offload": True}, "gradient_checkpointing": False},
    ],
    ids=str,
)
def test_layers_that_are_chosen_and_offloaded_keep_what_the_formula_says(tmp_path, settings):
    from modelforge.train.memory_trace.trace import trace

    kept = {}
    settings = {"gradient_checkpointing": True, "optim": "sgd", "lora_dropout": 0.0} | settings
    for layers in (4, 12):
        path = shaped(tmp_path / str(layers), "llama", layers)
        config, plan = planned(path, device="cuda", max_seq_length=LONG, eval_split=0, **settings)
        found = trace(config, plan, LONG)["parts"]["activations"]
        raw = json.loads((path / "config.json").read_text("utf-8"))
        facts = replace(STARTER, **read_shape(raw))
        kept[layers] = found, activations(config, plan, facts, LONG)
    traced, formula = (kept[12][number] - kept[4][number] for number in (0, 1))
    # A layer that is kept is most of it; what is offloaded leaves nothing behind.
    whole = block_bytes(config, plan, facts, LONG) * LONG
    assert traced == pytest.approx(formula, abs=0.3 * whole)
