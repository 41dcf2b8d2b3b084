"""Settings that affect memory or speed are in the estimates, memory traces and cache keys."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from modelforge.config.fields import field_specs
from modelforge.config.plan.make import Plan
from modelforge.config.schema.base import Group
from modelforge.preflight.cache_key import memory_trace_key
from modelforge.preflight.memory.traced import longest_row_tokens
from modelforge.preflight.suggest.speedups import OPTIONS, estimate_speed
from tests.preflight.contexts import LAPTOP, LLAMA_8B, STARTER, WORKSTATION, make_context

ROOT = Path(__file__).resolve().parents[2]
# The training step is traced with the training code itself, which reads settings and plan.
TRACED = ("train/memory_trace", "modeling/adapters", "modeling/providers")
TRACED_SOURCE = "\n".join(
    file.read_text(encoding="utf-8")
    for folder in TRACED
    for file in sorted((ROOT / "modelforge" / folder).glob("*.py"))
)
for name in ("config/methods.py", "modeling/recomputation.py"):
    TRACED_SOURCE += (ROOT / "modelforge" / name).read_text(encoding="utf-8")
FULL = {"adapter.enabled": False, "use_4bit": False}
# A setting may have an effect only together with others.
BASES = (
    {},
    {"use_4bit": True},
    {"hardware.gpus": 4, **FULL},
    {"hardware.gpus": 4, "hardware.sharding": "fsdp2", **FULL},
    {"use_4bit": False, "per_device_train_batch_size": 4},
    {"packing": True},
    {"eval_split": 0.0, "per_device_eval_batch_size": 64, "gradient_checkpointing": False},
    {"eval_split": 0.2, "per_device_eval_batch_size": 64},
    {"strategy": "rlhf"},
    {"strategy": "dpo"},
    {"strategy": "dpo", **FULL},
    {"progressive.enabled": True, **FULL},
    {"progressive.enabled": True, "progressive.trunk": "lora", **FULL},
    {"progressive.enabled": True, "progressive.rank_strategy": "pattern", **FULL},
    {
        "progressive.enabled": True,
        "progressive.rank_strategy": "table",
        "progressive.per_stage": "0: 8/16, 1: 8/16",
        **FULL,
    },
    {"pretraining.enabled": True, "pretraining.arch": "qwen3", "model_name": "", **FULL},
)
# Properties of the config through which a setting is read.
READ_AS = {
    "eval_split": {"evaluates"},
    "per_device_train_batch_size": {"rows_per_pass"},
    "privacy.enabled": {"rows_per_pass"},
}
TEXTS = {
    "adapter.target_modules": ["q_proj"],
    "adapter.modules_to_save": ["lm_head"],
    "pretraining.window_pattern": ["SL"],
    "progressive.per_stage": ["0: 64/64, 1: 64/64"],
}
# Tokens of a tokenizer that a model from nothing borrows.
BORROWED_TOKENS = 5_000
# The task selects another method for an encoder-decoder.
ENCODER_DECODER = replace(STARTER, kind="encoder-decoder")
MACHINES = ((LAPTOP, STARTER), (WORKSTATION, LLAMA_8B), (LAPTOP, ENCODER_DECODER))


@pytest.fixture(autouse=True, scope="module")
def borrowed_tokenizer(tmp_path_factory):
    """A folder with a tokenizer, the other value of `pretraining.tokenizer`."""
    folder = tmp_path_factory.mktemp("borrowed")
    vocabulary = {f"t{number}": number for number in range(BORROWED_TOKENS)}
    content = {"model": {"type": "BPE", "vocab": vocabulary}}
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TEXTS, "pretraining.tokenizer", [str(folder)])
        yield


def alternatives(spec):
    """Return values of a setting other than its default."""
    if spec.name in TEXTS:
        return TEXTS[spec.name]
    if spec.kind == "bool":
        return [not spec.default]
    if spec.kind == "choice":
        return [choice for choice in spec.choices if choice != spec.default]
    if spec.kind == "int":
        return [(spec.default or 64) * 4 + (spec.minimum == 0)]
    return [0.0, 0.5]


def pairs_of_contexts(spec):
    """Yield runs that differ in this setting alone."""
    for machine, info in MACHINES:
        for base in BASES:
            before = make_context(machine, info).with_settings(base)
            for value in alternatives(spec):
                yield before, before.with_settings({spec.name: value})


def changed_plan_fields(before, after):
    """Return the names of the effective values that differ between two runs."""
    names = {field.name for field in fields(Plan)} - {"changes"}
    return {name for name in names if getattr(before.plan, name) != getattr(after.plan, name)}


def affecting(aspect):
    specs = [spec for spec in field_specs() if aspect in spec.affects]
    assert specs
    return [pytest.param(spec, id=spec.name) for spec in specs]


@pytest.mark.parametrize("spec", affecting("memory"))
def test_a_setting_that_affects_memory_is_in_the_formula_and_the_traced_step(spec):
    pairs = list(pairs_of_contexts(spec))
    assert any(before.formula_gib != after.formula_gib for before, after in pairs)
    if spec.group in (Group.PRETRAINING, Group.GROWING):
        return  # the run makes the model, so there is nothing to trace before
    names = {spec.name.rpartition(".")[2]}.union(*(changed_plan_fields(*pair) for pair in pairs))
    names |= READ_AS.get(spec.name, set())
    assert any(re.search(rf"\b{name}\b", TRACED_SOURCE) for name in names)


@pytest.mark.parametrize("spec", affecting("memory"))
def test_a_setting_that_affects_memory_changes_the_key_of_a_memory_trace(spec):
    def key(context):
        length = longest_row_tokens(context.config, context.plan, None)
        return memory_trace_key(context.config, context.plan, length, "shape", {})

    assert any(key(before) != key(after) for before, after in pairs_of_contexts(spec))


@pytest.mark.parametrize("spec", affecting("speed"))
def test_a_setting_that_affects_speed_is_in_the_estimate_or_an_option(spec):
    source = Path(OPTIONS[0].__code__.co_filename).read_text(encoding="utf-8")
    is_option = f'"{spec.name}"' in source
    pairs = pairs_of_contexts(spec)
    assert is_option or any(estimate_speed(a) != estimate_speed(b) for a, b in pairs)


def test_settings_without_effect_are_left_out_of_the_key():
    before = make_context()
    after = before.with_settings({"learning_rate": 0.1, "logging.run_name": "x"})
    keys = {memory_trace_key(each.config, each.plan, 1, "", {}) for each in (before, after)}
    assert len(keys) == 1
