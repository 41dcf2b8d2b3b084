"""Each finding once where it belongs and once where it does not."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.errors import Finding
from modelforge.preflight.checks import (
    data,
    machine,
    model,
    provider,
    quantization,
    resources,
    run,
    settings,
)
from tests.preflight.cases import (
    CARD,
    LAPTOP,
    LLAMA_8B,
    ROWS,
    STARTER,
    WORKSTATION,
    a_case,
)

MAC = replace(LAPTOP, apple_gpu=True)
BERT = replace(STARTER, name="bert", architecture="BertForMaskedLM", kind="encoder")
T5 = replace(STARTER, name="t5", architecture="T5Model", kind="encoder-decoder")
BF16_SAID = {"hardware": {"precision": "bf16"}}
FP16_SAID = {"hardware": {"precision": "fp16"}}


def with_card(**changed):
    return replace(WORKSTATION, gpus=[replace(CARD, **changed)])


def with_rows(**changed):
    return replace(ROWS, **changed)


OLD = with_card(compute_capability=(7, 5))
PASCAL = with_card(compute_capability=(6, 1))
KEPLER = with_card(compute_capability=(3, 5))
SMALL_CARD = with_card(total_gib=8.0, free_gib=7.5)
TEN_GIB = with_card(total_gib=10.0, free_gib=8.7)
TINY_CARD = with_card(total_gib=4.0, free_gib=3.8)
BUSY_CARD = with_card(free_gib=5.0, other_gib=6.5)
BIG_BATCH = {"per_device_train_batch_size": 8, "max_seq_length": 256}
LONG = with_rows(longest_chars=40_000)
WIDE = {"gradient_checkpointing": False, "per_device_train_batch_size": 8, "use_4bit": False}

AMPERE = with_card(compute_capability=(8, 6))
BLACKWELL = replace(with_card(compute_capability=(12, 0)), packages=("torchao",))
OSS = replace(STARTER, name="gpt-oss", model_type="gpt_oss", quantization="mxfp4")
SCHEME = "quantization.scheme"
TRACKING = replace(LAPTOP, packages=("aim", "wandb"))
FLASH = {"model": {"attn_implementation": "flash_attention_2"}}
WHOLE = {"adapter": {"enabled": False}, "use_4bit": False}


def scheme(name, **more):
    return {"use_4bit": False, "quantization": {"scheme": name, **more}}


# code, level, where, suggested, case
SAID = [
    ("model-wrong-kind", "blocker", "model_name", "starter", a_case(facts=BERT)),
    ("model-wrong-kind", "blocker", "model_name", "starter", a_case(facts=T5)),
    ("model-wrong-kind", "blocker", "model_name", "starter", a_case(facts=T5, strategy="dpo")),
    (
        "model-wrong-kind",
        "blocker",
        "model_name",
        "starter",
        a_case(facts=BERT, task="summarization"),
    ),
    (
        "model-wrong-kind",
        "blocker",
        "model_name",
        "starter",
        a_case(facts=T5, task="extractive-question-answering"),
    ),
    ("fp8-card", "blocker", SCHEME, "fp8-weight-only", a_case(AMPERE, **scheme("fp8"))),
    ("fp8-card", "blocker", SCHEME, "fp8-weight-only", a_case(**scheme("fp8"))),
    ("nvfp4-card", "blocker", SCHEME, "bnb-4bit", a_case(WORKSTATION, **scheme("nvfp4"))),
    ("nvfp4-card", "caution", SCHEME, "bnb-4bit", a_case(**scheme("nvfp4", allow_slow=True))),
    ("mxfp4-model", "blocker", SCHEME, "bnb-4bit", a_case(WORKSTATION, **scheme("mxfp4"))),
    ("mxfp4-unpacked", "caution", SCHEME, None, a_case(WORKSTATION, OSS, **scheme("mxfp4"))),
    (
        "package-missing",
        "blocker",
        SCHEME,
        "bnb-8bit",
        a_case(**scheme("int8-weight-only")),
    ),
    (
        "tracker-missing",
        "blocker",
        "logging.report_to",
        "aim",
        a_case(TRACKING, logging={"report_to": "mlflow, aim"}),
    ),
    (
        "tracker-online",
        "note",
        "logging.wandb_mode",
        "offline",
        a_case(TRACKING, logging={"report_to": "wandb", "wandb_mode": "online"}),
    ),
    (
        "nothing-quantized",
        "blocker",
        "quantization.skip_last_layers",
        0,
        a_case(WORKSTATION, quantization={"skip_first_layers": 15, "skip_last_layers": 15}),
    ),
    (
        "skip-unused",
        "note",
        "quantization.skip_first_layers",
        None,
        a_case(quantization={"skip_first_layers": 1}),
    ),
    ("setting-unused", "note", "trainer.kl_beta", None, a_case(trainer={"kl_beta": 0.1})),
    (
        "setting-unused",
        "note",
        "trainer.preference_beta",
        None,
        a_case(strategy="rlhf", trainer={"preference_beta": 0.5}),
    ),
    (
        "setting-unused",
        "note",
        "trainer.reward_words",
        None,
        a_case(strategy="rlhf", trainer={"reward_words": 5}),
    ),
    (
        "schedule-too-long",
        "blocker",
        "schedule.decay_steps",
        None,
        a_case(lr_scheduler_type="wsd", schedule={"decay_steps": 300}),
    ),
    (
        "warm-up-too-long",
        "caution",
        "schedule.warmup_steps",
        4,
        a_case(schedule={"warmup_steps": 100}),
    ),
    ("plan-changed", "note", "model.attn_implementation", None, a_case(**FLASH)),
    (
        "plan-changed",
        "note",
        "gradient_accumulation_steps",
        None,
        a_case(strategy="rlhf", trainer={"num_generations": 3}),
    ),
    ("memory-base", "blocker", "adapter.enabled", None, a_case(WORKSTATION, LLAMA_8B, **WHOLE)),
    (
        "memory-short",
        "caution",
        "optim",
        "paged_adamw_8bit",
        a_case(with_card(total_gib=3.7, free_gib=3.6), **WHOLE),
    ),
    (
        "model-already-quantized",
        "caution",
        "model_name",
        None,
        a_case(facts=replace(STARTER, quantization="4-bit")),
    ),
    (
        "model-already-quantized",
        "blocker",
        "model_name",
        None,
        a_case(WORKSTATION, replace(STARTER, quantization="gptq")),
    ),
    (
        "device-missing",
        "blocker",
        "hardware.device",
        "auto",
        a_case(hardware={"device": "cuda"}),
    ),
    ("device-missing", "blocker", "hardware.device", "auto", a_case(hardware={"device": "mps"})),
    (
        "gpu-missing",
        "blocker",
        "hardware.gpu_index",
        0,
        a_case(WORKSTATION, hardware={"gpu_index": 1}),
    ),
    ("bf16-card", "blocker", "bf16", False, a_case(OLD, bf16=True)),
    (
        "bf16-card",
        "blocker",
        "hardware.precision",
        "auto",
        a_case(OLD, hardware=BF16_SAID["hardware"]),
    ),
    ("fp16-on-cpu", "blocker", "fp16", False, a_case(fp16=True)),
    ("fp16-on-cpu", "blocker", "hardware.precision", "auto", a_case(**FP16_SAID)),
    ("bf16-on-cpu", "note", "bf16", False, a_case(bf16=True)),
    ("bf16-on-cpu", "note", "hardware.precision", "auto", a_case(**BF16_SAID)),
    ("quantized-slow", "note", "use_4bit", False, a_case(use_4bit=True)),
    ("quantized-slow", "note", "use_8bit", False, a_case(use_8bit=True)),
    ("quantized-slow", "note", "use_4bit", False, a_case(MAC, use_4bit=True)),
    ("quantized-slow", "note", "use_4bit", None, a_case(use_4bit=True, strategy="qlora")),
    ("quantized-card", "caution", "use_4bit", False, a_case(PASCAL)),
    ("quantized-card", "blocker", "use_4bit", False, a_case(KEPLER)),
    ("vram-held", "note", "", None, a_case(BUSY_CARD)),
    ("profile-differs", "note", "compute_specs", "low_end", a_case(compute_specs="high_end")),
    (
        "memory-base",
        "blocker",
        "use_4bit",
        True,
        a_case(WORKSTATION, LLAMA_8B, use_4bit=False),
    ),
    ("memory-base", "blocker", "model_name", None, a_case(TINY_CARD, LLAMA_8B)),
    ("memory-base", "blocker", "model_name", None, a_case(BUSY_CARD, LLAMA_8B)),
    ("memory-base", "blocker", "use_4bit", True, a_case(facts=LLAMA_8B)),
    (
        "memory-short",
        "caution",
        "gradient_checkpointing",
        True,
        a_case(SMALL_CARD, look=LONG, gradient_checkpointing=False, per_device_train_batch_size=4),
    ),
    (
        "memory-short",
        "caution",
        "per_device_train_batch_size",
        16,
        a_case(SMALL_CARD, look=LONG, per_device_train_batch_size=64),
    ),
    ("memory-short", "caution", "max_seq_length", 512, a_case(TEN_GIB, LLAMA_8B, LONG)),
    ("memory-option", "note", "max_seq_length", 512, a_case(SMALL_CARD, look=LONG, **WIDE)),
    (
        "ram-short",
        "caution",
        "per_device_train_batch_size",
        2,
        a_case(replace(LAPTOP, ram_free_gib=4.0), gradient_checkpointing=False, **BIG_BATCH),
    ),
    (
        "memory-unknown",
        "note",
        "model_name",
        None,
        a_case(facts=replace(STARTER, hidden_size=None)),
    ),
    ("disk-full", "blocker", "", None, a_case(replace(LAPTOP, disk_free_gib=0.1))),
    ("disk-short", "caution", "", None, a_case(replace(LAPTOP, disk_free_gib=1.0))),
    ("no-training-rows", "blocker", "eval_split", 0.1, a_case(eval_split=1)),
    ("no-eval-rows", "blocker", "eval_split", 0, a_case(look=with_rows(rows=1))),
    ("no-evaluation", "note", "eval_split", 0.1, a_case(eval_split=0)),
    (
        "rows-cut",
        "note",
        "max_seq_length",
        320,
        a_case(look=with_rows(longest_chars=1100), max_seq_length=256),
    ),
    ("rows-cut", "note", "max_seq_length", 8192, a_case(look=with_rows(longest_chars=90_000))),
    (
        "rows-cut",
        "note",
        "max_seq_length",
        None,
        a_case(look=with_rows(longest_chars=90_000), max_seq_length=8192),
    ),
    ("few-updates", "caution", "num_train_epochs", 5, a_case(look=with_rows(rows=10))),
    ("few-updates", "caution", "max_steps", 10, a_case(max_steps=5)),
    ("checks-slow", "caution", "eval_steps", 360, a_case(look=with_rows(rows=9000), eval_steps=2)),
    (
        "learning-rate-unusual",
        "caution",
        "learning_rate",
        2e-4,
        a_case(WORKSTATION, learning_rate=2e-3),
    ),
    ("learning-rate-unusual", "caution", "learning_rate", 5e-4, a_case(learning_rate=1e-6)),
    (
        "learning-rate-unusual",
        "caution",
        "learning_rate",
        5e-7,
        a_case(WORKSTATION, strategy="dpo"),
    ),
    ("plan-changed", "note", "optim", None, a_case(optim="paged_adamw_32bit")),
    ("plan-changed", "note", "eval_steps", None, a_case(eval_steps=1000)),
    (
        "no-chat-template",
        "note",
        "model_name",
        None,
        a_case(facts=replace(STARTER, has_chat_template=False)),
    ),
    (
        "remote-code-off",
        "note",
        "model_name",
        None,
        a_case(facts=replace(STARTER, remote_code=True)),
    ),
]

QUIET = [
    ("model-wrong-kind", a_case(facts=T5, task="summarization")),
    ("model-wrong-kind", a_case(task="summarization")),
    ("model-wrong-kind", a_case(task="extractive-question-answering")),
    ("fp8-card", a_case(WORKSTATION, **scheme("fp8"))),
    ("fp8-card", a_case(AMPERE, **scheme("fp8-weight-only"))),
    ("nvfp4-card", a_case(BLACKWELL, **scheme("nvfp4"))),
    ("mxfp4-model", a_case(WORKSTATION, OSS, **scheme("mxfp4"))),
    ("mxfp4-unpacked", a_case(WORKSTATION)),
    ("package-missing", a_case(BLACKWELL, **scheme("nvfp4"))),
    ("package-missing", a_case(WORKSTATION)),
    ("tracker-missing", a_case(TRACKING, logging={"report_to": "aim"})),
    ("tracker-missing", a_case(logging={"report_to": "none"})),
    ("tracker-online", a_case(TRACKING, logging={"report_to": "wandb"})),
    ("tracker-online", a_case(logging={"wandb_mode": "online"})),
    ("nothing-quantized", a_case(WORKSTATION, quantization={"skip_first_layers": 29})),
    ("skip-unused", a_case(WORKSTATION, quantization={"skip_first_layers": 1})),
    ("setting-unused", a_case(strategy="dpo", trainer={"preference_beta": 0.5})),
    (
        "setting-unused",
        a_case(strategy="rlhf", trainer={"reward": "length", "reward_words": 5}),
    ),
    ("setting-unused", a_case(trainer={"kl_beta": 0.05})),
    ("schedule-too-long", a_case(lr_scheduler_type="wsd", schedule={"decay_steps": 20})),
    ("warm-up-too-long", a_case(schedule={"warmup_steps": 5})),
    ("quantized-card", a_case(PASCAL, **scheme("fp8-weight-only"))),
    ("model-wrong-kind", a_case(facts=replace(STARTER, kind="unknown"))),
    ("model-wrong-kind", a_case(facts=BERT, task="extractive-question-answering")),
    ("model-already-quantized", a_case(WORKSTATION, replace(STARTER, quantization="4-bit"))),
    ("device-missing", a_case(WORKSTATION, hardware={"device": "cuda"})),
    ("device-missing", a_case(WORKSTATION, hardware={"device": "cpu"})),
    ("gpu-missing", a_case(WORKSTATION)),
    ("gpu-missing", a_case(hardware={"gpu_index": 3})),
    ("bf16-card", a_case(with_card(compute_capability=(8, 0)), bf16=True)),
    ("bf16-card", a_case(with_card(compute_capability=None), bf16=True)),
    ("bf16-card", a_case(OLD, fp16=True)),
    ("fp16-on-cpu", a_case(OLD, fp16=True)),
    ("bf16-on-cpu", a_case()),
    ("quantized-slow", a_case(WORKSTATION)),
    ("quantized-card", a_case(OLD)),
    ("vram-held", a_case(WORKSTATION)),
    ("vram-held", a_case(with_card(other_gib=None))),
    ("profile-differs", a_case()),
    ("memory-base", a_case(WORKSTATION, LLAMA_8B)),
    ("memory-base", a_case(with_card(total_gib=None, free_gib=None), LLAMA_8B)),
    ("memory-short", a_case(WORKSTATION, LLAMA_8B)),
    ("memory-option", a_case(WORKSTATION, LLAMA_8B)),
    ("memory-short", a_case(TINY_CARD, LLAMA_8B)),
    ("ram-short", a_case()),
    ("ram-short", a_case(replace(LAPTOP, ram_free_gib=None))),
    ("memory-unknown", a_case(facts=None)),
    ("disk-full", a_case(replace(LAPTOP, disk_free_gib=1.0))),
    ("disk-short", a_case()),
    ("disk-short", a_case(replace(LAPTOP, disk_free_gib=None))),
    ("no-training-rows", a_case(eval_split=0.99)),
    ("no-eval-rows", a_case(look=with_rows(rows=1), eval_split=0)),
    ("no-evaluation", a_case(eval_split=0.1)),
    ("rows-cut", a_case()),
    ("rows-cut", a_case(look=LONG, packing=True)),
    ("few-updates", a_case()),
    ("few-updates", a_case(look=None)),
    ("checks-slow", a_case(look=with_rows(rows=9000), eval_steps=360)),
    ("checks-slow", a_case(look=with_rows(rows=9000), eval_steps=2, eval_split=0)),
    ("learning-rate-unusual", a_case(learning_rate=5e-4)),
    ("plan-changed", a_case(max_seq_length=512, eval_steps=10)),
    ("no-chat-template", a_case()),
    ("remote-code-off", a_case()),
]


def with_code(case, code):
    return [finding for finding in run.findings(case) if finding.code == code]


@pytest.mark.parametrize(
    ("code", "level", "where", "suggested", "case"), SAID, ids=[said[0] for said in SAID]
)
def test_a_finding_names_its_level_setting_and_better_value(code, level, where, suggested, case):
    found = [(one.level, one.where, one.suggested) for one in with_code(case, code)]
    assert (level, where, suggested) in found


@pytest.mark.parametrize(("code", "case"), QUIET, ids=[quiet[0] for quiet in QUIET])
def test_nothing_is_said_where_nothing_is_wrong(code, case):
    assert with_code(case, code) == []


def test_every_code_is_tried_both_ways():
    assert {said[0] for said in SAID} == {quiet[0] for quiet in QUIET}


def test_every_check_is_in_the_list_once():
    modules = (data, machine, model, provider, quantization, resources, settings)
    defined = [
        member
        for module in modules
        for member in vars(module).values()
        if getattr(member, "__module__", "") == module.__name__
        and getattr(member, "__annotations__", {}).get("return") == "Iterator[Finding]"
    ]
    assert sorted(run.CHECKS, key=repr) == sorted(defined, key=repr)


@pytest.mark.parametrize("said", SAID, ids=[said[0] for said in SAID])
def test_messages_are_whole_sentences_with_numbers_as_people_say_them(said):
    for finding in run.findings(said[4]):
        assert re.fullmatch(r"[a-z0-9-]+", finding.code)
        for text in filter(None, (finding.what, finding.remedy)):
            assert text.endswith("."), text
            assert not re.search(r"\d\.\d{2,} GiB|None|True|False|  ", text), text


def test_a_sound_run_has_no_blockers_and_no_cautions():
    for case in (a_case(), a_case(WORKSTATION, LLAMA_8B)):
        assert {one.level for one in run.findings(case)} <= {"note"}


def test_blockers_come_first_and_notes_last():
    case = a_case(fp16=True, learning_rate=0.5, optim="paged_adamw_32bit")
    levels = [one.level for one in run.findings(case)]
    assert levels == sorted(levels, key=("blocker", "caution", "note").index)
    assert set(levels) == {"blocker", "caution", "note"}


def test_what_the_data_said_is_passed_on_as_it_is():
    odd = Finding("caution", "duplicate-rows", "3 rows repeat an earlier one.", where="dataset")
    assert odd in run.findings(a_case(look=with_rows(findings=[odd])))


def test_a_card_that_is_merely_busy_is_said_to_be_busy():
    [found] = with_code(a_case(BUSY_CARD, LLAMA_8B), "memory-base")
    assert "6.5 GiB" in found.remedy


def test_when_nothing_makes_it_fit_the_largest_model_that_does_is_named():
    [found] = with_code(a_case(TINY_CARD, LLAMA_8B), "memory-base")
    assert "The largest model that fits is Qwen/Qwen3-1.7B" in found.remedy


def test_a_default_of_no_use_is_not_told_as_changed():
    """With every weight trained nobody is told that 4-bit weights, never chosen, are off."""

    def told(**said):
        return {found.where for found in settings.plan_changes(a_case(**said))}

    whole = {"adapter": {"enabled": False}}
    assert "use_4bit" in told(**whole, use_4bit=True)
    unsaid = a_case(**whole)
    fields = {k: v for k, v in unsaid.config.explicit_values().items() if k != "use_4bit"}
    config = type(unsaid.config)(**fields)
    plan = make_plan(config, PlanContext(device="cpu", model_path="m"))
    assert "use_4bit" in {change.where for change in plan.changes}
    quiet = settings.plan_changes(replace(unsaid, config=config, plan=plan))
    assert "use_4bit" not in {found.where for found in quiet}
