"""Each finding with a run that has it and one that has not."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.errors import Finding
from modelforge.preflight.checks import (
    data,
    engine,
    growing,
    layers,
    logs,
    machine,
    model,
    pretraining,
    privacy,
    provider,
    quantization,
    ranks,
    resources,
    run,
    settings,
)
from tests.preflight.contexts import (
    CARD,
    LAPTOP,
    LLAMA_8B,
    ROWS,
    STARTER,
    WORKSTATION,
    findings_of,
    make_context,
)

MAC = replace(LAPTOP, apple_gpu=True)
AVX_512 = replace(LAPTOP, cpu_flags=("avx512bw",))
BERT = replace(STARTER, name="bert", architecture="BertForMaskedLM", kind="encoder")
T5 = replace(STARTER, name="t5", architecture="T5Model", kind="encoder-decoder")
BF16 = {"hardware": {"precision": "bf16"}}
FP16 = {"hardware": {"precision": "fp16"}}


def with_card(**changed):
    return replace(WORKSTATION, gpus=[replace(CARD, **changed)])


def with_rows(**changed):
    return replace(ROWS, **changed)


OLD = with_card(compute_capability=(7, 5))
PASCAL = with_card(compute_capability=(6, 1))
CPU_BUILD = replace(WORKSTATION, torch_cuda="")
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
GEMMA = replace(STARTER, name="gemma", model_type="gemma3_text")
FLASH = {"model": {"attn_implementation": "flash_attention_2"}}
COMPILING = replace(WORKSTATION, packages=("cc", "Python.h", "triton"))
GRAPHS = {
    "trainer.torch_compile": True,
    "hardware.torch_compile_mode": "reduce-overhead",
}
WRAPPED = {"packing": True, "data.packing_strategy": "wrapped"}
WHOLE = {"adapter": {"enabled": False}, "use_4bit": False}


def scheme(name, **more):
    return {"use_4bit": False, "quantization": {"scheme": name, **more}}


PRIVATE = {"privacy": {"enabled": True}}
MERGED = {"adapter": {"merge_after_training": True}}

# code, level, where, suggested, context
FOUND = [
    (
        "no-room-for-answers",
        "blocker",
        "trainer.max_completion_length",
        128,
        make_context(strategy="rlhf", max_seq_length=256, trainer={"max_completion_length": 256}),
    ),
    (
        "generation-fields-dropped",
        "note",
        "model_name",
        None,
        make_context(info=replace(STARTER, generation_fields=("temperature", "top_p"))),
    ),
    ("model-wrong-kind", "blocker", "model_name", "starter", make_context(info=BERT)),
    ("model-wrong-kind", "blocker", "model_name", "starter", make_context(info=T5)),
    (
        "model-wrong-kind",
        "blocker",
        "model_name",
        "starter",
        make_context(info=T5, strategy="dpo"),
    ),
    (
        "model-wrong-kind",
        "blocker",
        "model_name",
        "starter",
        make_context(info=BERT, task="summarization"),
    ),
    (
        "model-wrong-kind",
        "blocker",
        "model_name",
        "starter",
        make_context(info=T5, task="extractive-question-answering"),
    ),
    (
        "memory-limited",
        "note",
        "memory.max_vram_fraction",
        None,
        make_context(WORKSTATION, memory={"max_vram_fraction": 0.5}),
    ),
    (
        "host-memory-short",
        "caution",
        "memory.activation_offload",
        False,
        make_context(
            replace(WORKSTATION, ram_free_gib=0.1),
            LLAMA_8B,
            LONG,
            memory={"activation_offload": True},
        ),
    ),
    (
        "graphs-of-many-shapes",
        "caution",
        "hardware.torch_compile_mode",
        "default",
        make_context(COMPILING, use_4bit=False).with_settings(GRAPHS),
    ),
    (
        "fp8-training-card",
        "blocker",
        "quantization.fp8_training",
        False,
        make_context(AMPERE, quantization={"fp8_training": True}),
    ),
    (
        "fp8-training-card",
        "caution",
        "quantization.fp8_training",
        False,
        make_context(quantization={"fp8_training": True, "allow_slow": True}),
    ),
    (
        "fp8-training-slow",
        "caution",
        "trainer.torch_compile",
        True,
        make_context(WORKSTATION, quantization={"fp8_training": True}),
    ),
    (
        "package-missing",
        "blocker",
        "quantization.fp8_training",
        False,
        make_context(WORKSTATION, quantization={"fp8_training": True}),
    ),
    (
        "package-missing",
        "blocker",
        "quantization.four_over_six",
        False,
        make_context(BLACKWELL, **scheme("nvfp4", four_over_six=True)),
    ),
    ("fp8-card", "blocker", SCHEME, "fp8-weight-only", make_context(AMPERE, **scheme("fp8"))),
    ("fp8-card", "blocker", SCHEME, "fp8-weight-only", make_context(**scheme("fp8"))),
    ("nvfp4-card", "blocker", SCHEME, "bnb-4bit", make_context(WORKSTATION, **scheme("nvfp4"))),
    ("nvfp4-card", "caution", SCHEME, "bnb-4bit", make_context(**scheme("nvfp4", allow_slow=True))),
    ("mxfp4-model", "blocker", SCHEME, "bnb-4bit", make_context(WORKSTATION, **scheme("mxfp4"))),
    ("mxfp4-unpacked", "caution", SCHEME, None, make_context(WORKSTATION, OSS, **scheme("mxfp4"))),
    (
        "package-missing",
        "blocker",
        SCHEME,
        "bnb-8bit",
        make_context(**scheme("int8-weight-only")),
    ),
    (
        "tracker-missing",
        "blocker",
        "logging.report_to",
        "aim",
        make_context(TRACKING, logging={"report_to": "mlflow, aim"}),
    ),
    ("privacy-package", "blocker", "privacy.enabled", False, make_context(**PRIVATE)),
    (
        "privacy-precision",
        "blocker",
        "hardware.precision",
        "fp32",
        make_context(
            replace(with_card(compute_capability=(7, 5)), packages=("opacus",)), **PRIVATE
        ),
    ),
    ("privacy-few-rows", "caution", "privacy.enabled", None, make_context(**PRIVATE)),
    ("privacy-spent", "note", "privacy.epsilon", None, make_context(**PRIVATE)),
    ("privacy-evaluation", "note", "evaluation.keep_best", None, make_context(**PRIVATE)),
    (
        "merge-memory",
        "caution",
        "adapter.merge_after_training",
        False,
        make_context(replace(WORKSTATION, ram_free_gib=3.0), LLAMA_8B, **MERGED),
    ),
    (
        "merge-quantized",
        "blocker",
        "adapter.merge_after_training",
        False,
        make_context(WORKSTATION, replace(LLAMA_8B, quantization="4-bit"), **MERGED),
    ),
    (
        "log-file",
        "blocker",
        "logging.log_file",
        None,
        make_context(logging={"log_file": "/no/such/folder/run.log"}),
    ),
    (
        "tracker-folder",
        "blocker",
        "logging.repo",
        None,
        make_context(TRACKING, logging={"report_to": "aim", "repo": "/no/such/folder/aim"}),
    ),
    (
        "tracker-online",
        "note",
        "logging.repo",
        None,
        make_context(TRACKING, logging={"report_to": "aim", "repo": "aim://there:53800"}),
    ),
    (
        "tracker-online",
        "note",
        "logging.wandb_mode",
        "offline",
        make_context(TRACKING, logging={"report_to": "wandb", "wandb_mode": "online"}),
    ),
    (
        "nothing-quantized",
        "blocker",
        "quantization.skip_last_layers",
        0,
        make_context(WORKSTATION, quantization={"skip_first_layers": 15, "skip_last_layers": 15}),
    ),
    (
        "skip-unused",
        "note",
        "quantization.skip_first_layers",
        None,
        make_context(quantization={"skip_first_layers": 1}),
    ),
    ("setting-unused", "note", "trainer.kl_beta", None, make_context(trainer={"kl_beta": 0.1})),
    (
        "setting-unused",
        "note",
        "trainer.preference_beta",
        None,
        make_context(strategy="rlhf", trainer={"preference_beta": 0.5}),
    ),
    (
        "setting-unused",
        "note",
        "trainer.reward_words",
        None,
        make_context(strategy="rlhf", trainer={"reward_words": 5}),
    ),
    (
        "schedule-too-long",
        "blocker",
        "schedule.decay_steps",
        None,
        make_context(lr_scheduler_type="wsd", schedule={"decay_steps": 300}),
    ),
    (
        "warm-up-too-long",
        "caution",
        "schedule.warmup_steps",
        4,
        make_context(schedule={"warmup_steps": 100}),
    ),
    (
        "schedule-without-effect",
        "caution",
        "eval_steps",
        12,
        make_context(lr_scheduler_type="reduce_lr_on_plateau", max_steps=50, eval_steps=20),
    ),
    (
        "schedule-without-effect",
        "caution",
        "lr_scheduler_type",
        None,
        make_context(lr_scheduler_type="greedy", max_steps=2),
    ),
    ("plan-changed", "note", "model.attn_implementation", None, make_context(**FLASH)),
    (
        "plan-changed",
        "note",
        "gradient_accumulation_steps",
        None,
        make_context(strategy="rlhf", trainer={"num_generations": 3}),
    ),
    (
        "memory-base",
        "blocker",
        "adapter.enabled",
        None,
        make_context(WORKSTATION, LLAMA_8B, **WHOLE),
    ),
    (
        "memory-short",
        "caution",
        "optim",
        "paged_adamw_8bit",
        make_context(with_card(total_gib=3.7, free_gib=3.6), **WHOLE),
    ),
    (
        "model-already-quantized",
        "caution",
        "model_name",
        None,
        make_context(info=replace(STARTER, quantization="4-bit")),
    ),
    (
        "model-already-quantized",
        "blocker",
        "model_name",
        None,
        make_context(WORKSTATION, replace(STARTER, quantization="gptq")),
    ),
    (
        "device-missing",
        "blocker",
        "hardware.device",
        "auto",
        make_context(hardware={"device": "cuda"}),
    ),
    (
        "device-missing",
        "blocker",
        "hardware.device",
        "auto",
        make_context(hardware={"device": "mps"}),
    ),
    (
        "gpu-missing",
        "blocker",
        "hardware.gpu_index",
        0,
        make_context(WORKSTATION, hardware={"gpu_index": 1}),
    ),
    (
        "torch-unsuited",
        "blocker",
        "hardware.device",
        "cpu",
        make_context(replace(WORKSTATION, torch_cuda="13.0")),
    ),
    ("torch-unsuited", "blocker", "hardware.device", "cpu", make_context(CPU_BUILD)),
    (
        "torch-unsuited",
        "blocker",
        "hardware.device",
        "cpu",
        make_context(replace(PASCAL, torch_cuda="13.0")),
    ),
    ("bf16-card", "blocker", "bf16", False, make_context(OLD, bf16=True)),
    (
        "bf16-card",
        "blocker",
        "hardware.precision",
        "auto",
        make_context(OLD, hardware=BF16["hardware"]),
    ),
    ("fp16-on-cpu", "blocker", "fp16", False, make_context(fp16=True)),
    ("fp16-overflow", "caution", "hardware.precision", "fp32", make_context(OLD, GEMMA)),
    (
        "fp16-overflow",
        "caution",
        "hardware.precision",
        "fp32",
        make_context(OLD, replace(T5, model_type="t5"), task="summarization"),
    ),
    ("fp16-on-cpu", "blocker", "hardware.precision", "auto", make_context(**FP16)),
    ("bf16-on-cpu", "caution", "bf16", False, make_context(bf16=True)),
    ("bf16-on-cpu", "caution", "hardware.precision", "auto", make_context(**BF16)),
    ("bf16-on-cpu", "note", "bf16", False, make_context(AVX_512, bf16=True)),
    ("quantized-slow", "note", "use_4bit", False, make_context(use_4bit=True)),
    ("quantized-slow", "note", "use_8bit", False, make_context(use_8bit=True)),
    ("quantized-slow", "note", "use_4bit", False, make_context(MAC, use_4bit=True)),
    ("quantized-slow", "note", "use_4bit", None, make_context(use_4bit=True, strategy="qlora")),
    ("quantized-card", "caution", "use_4bit", False, make_context(PASCAL)),
    ("quantized-card", "blocker", "use_4bit", False, make_context(KEPLER)),
    ("vram-held", "note", "", None, make_context(BUSY_CARD)),
    ("profile-differs", "note", "compute_specs", "low_end", make_context(compute_specs="high_end")),
    (
        "memory-base",
        "blocker",
        "use_4bit",
        True,
        make_context(WORKSTATION, LLAMA_8B, use_4bit=False),
    ),
    ("memory-base", "blocker", "model_name", None, make_context(TINY_CARD, LLAMA_8B)),
    ("memory-base", "blocker", "model_name", None, make_context(BUSY_CARD, LLAMA_8B)),
    ("memory-base", "blocker", "use_4bit", True, make_context(info=LLAMA_8B)),
    (
        "memory-short",
        "caution",
        "gradient_checkpointing",
        True,
        make_context(
            SMALL_CARD, summary=LONG, gradient_checkpointing=False, per_device_train_batch_size=4
        ),
    ),
    (
        "memory-short",
        "caution",
        "per_device_train_batch_size",
        16,
        make_context(SMALL_CARD, summary=LONG, per_device_train_batch_size=64),
    ),
    ("memory-short", "caution", "max_seq_length", 512, make_context(TEN_GIB, LLAMA_8B, LONG)),
    (
        "memory-option",
        "note",
        "max_seq_length",
        512,
        make_context(SMALL_CARD, summary=LONG, **WIDE),
    ),
    (
        "ram-short",
        "caution",
        "per_device_train_batch_size",
        2,
        make_context(replace(LAPTOP, ram_free_gib=4.0), gradient_checkpointing=False, **BIG_BATCH),
    ),
    (
        "memory-unknown",
        "note",
        "model_name",
        None,
        make_context(info=replace(STARTER, hidden_size=None)),
    ),
    ("disk-full", "blocker", "", None, make_context(replace(LAPTOP, disk_free_gib=0.1))),
    ("disk-short", "caution", "", None, make_context(replace(LAPTOP, disk_free_gib=1.0))),
    ("no-training-rows", "blocker", "eval_split", 0.1, make_context(eval_split=1)),
    ("no-eval-rows", "blocker", "eval_split", 0, make_context(summary=with_rows(rows=1))),
    ("no-evaluation", "note", "eval_split", 0.1, make_context(eval_split=0)),
    (
        "rows-cut",
        "note",
        "max_seq_length",
        320,
        make_context(summary=with_rows(longest_chars=1100), max_seq_length=256),
    ),
    (
        "rows-cut",
        "note",
        "max_seq_length",
        8192,
        make_context(summary=with_rows(longest_chars=90_000)),
    ),
    (
        "rows-cut",
        "note",
        "max_seq_length",
        None,
        make_context(summary=with_rows(longest_chars=90_000), max_seq_length=8192),
    ),
    ("few-updates", "caution", "num_train_epochs", 5, make_context(summary=with_rows(rows=10))),
    ("few-updates", "caution", "max_steps", 10, make_context(max_steps=5)),
    (
        "checks-slow",
        "caution",
        "eval_steps",
        360,
        make_context(summary=with_rows(rows=9000), eval_steps=2),
    ),
    (
        "learning-rate-unusual",
        "caution",
        "learning_rate",
        2e-4,
        make_context(WORKSTATION, learning_rate=2e-3),
    ),
    ("learning-rate-unusual", "caution", "learning_rate", 5e-4, make_context(learning_rate=1e-6)),
    (
        "learning-rate-unusual",
        "caution",
        "learning_rate",
        5e-4,
        make_context(WORKSTATION, learning_rate=1e-6, hardware={"device": "cpu"}),
    ),
    (
        "learning-rate-unusual",
        "caution",
        "learning_rate",
        5e-6,
        make_context(WORKSTATION, strategy="dpo"),
    ),
    ("dropout-of-everything", "blocker", "lora_dropout", 0.1, make_context(lora_dropout=1.0)),
    ("dropout-high", "caution", "lora_dropout", 0.1, make_context(lora_dropout=0.6)),
    ("alpha-below-rank", "note", "lora_alpha", 128, make_context(lora_r=64)),
    ("muon-on-adapter", "note", "optim", "adamw_torch", make_context(optim="muon")),
    ("plan-changed", "note", "lora_dropout", None, make_context(strategy="dpo", lora_dropout=0.1)),
    (
        "plan-changed",
        "note",
        "group_by_length",
        None,
        make_context(strategy="rlhf", group_by_length=True),
    ),
    ("plan-changed", "note", "per_device_eval_batch_size", None, make_context(strategy="rlhf")),
    (
        "setting-unused",
        "note",
        "data.loss_on",
        None,
        make_context(strategy="dpo", data={"loss_on": "all"}),
    ),
    ("plan-changed", "note", "optim", None, make_context(optim="paged_adamw_32bit")),
    (
        "paging-unsupported",
        "caution",
        "optim",
        "adamw_8bit",
        make_context(replace(WORKSTATION, system="Windows 11"), optim="paged_adamw_8bit"),
    ),
    ("plan-changed", "note", "eval_steps", None, make_context(eval_steps=1000)),
    (
        "chat-template-file",
        "blocker",
        "model.chat_template",
        None,
        make_context(model={"chat_template": "absent.jinja"}),
    ),
    (
        "no-chat-template",
        "note",
        "model_name",
        None,
        make_context(info=replace(STARTER, has_chat_template=False)),
    ),
    (
        "remote-code-off",
        "note",
        "model_name",
        None,
        make_context(info=replace(STARTER, remote_code=True)),
    ),
]

NOT_FOUND = [
    ("fp8-training-card", make_context(WORKSTATION, quantization={"fp8_training": True})),
    ("fp8-training-card", make_context()),
    ("fp8-training-slow", make_context(WORKSTATION)),
    (
        "fp8-training-slow",
        make_context(COMPILING, use_4bit=False).with_settings(
            {"trainer.torch_compile": True, "quantization.fp8_training": True}
        ),
    ),
    ("memory-limited", make_context(WORKSTATION)),
    ("memory-limited", make_context(memory={"max_vram_fraction": 0.5})),
    ("host-memory-short", make_context(WORKSTATION, LLAMA_8B, LONG)),
    (
        "host-memory-short",
        make_context(WORKSTATION, LLAMA_8B, LONG, memory={"activation_offload": True}),
    ),
    (
        "graphs-of-many-shapes",
        make_context(COMPILING, use_4bit=False).with_settings(GRAPHS | WRAPPED),
    ),
    ("no-room-for-answers", make_context(strategy="rlhf", max_seq_length=256)),
    ("generation-fields-dropped", make_context()),
    ("model-wrong-kind", make_context(info=T5, task="summarization")),
    ("model-wrong-kind", make_context(task="summarization")),
    ("model-wrong-kind", make_context(task="extractive-question-answering")),
    ("fp8-card", make_context(WORKSTATION, **scheme("fp8"))),
    ("fp8-card", make_context(AMPERE, **scheme("fp8-weight-only"))),
    ("nvfp4-card", make_context(BLACKWELL, **scheme("nvfp4"))),
    ("mxfp4-model", make_context(WORKSTATION, OSS, **scheme("mxfp4"))),
    ("mxfp4-unpacked", make_context(WORKSTATION)),
    ("package-missing", make_context(BLACKWELL, **scheme("nvfp4"))),
    ("package-missing", make_context(WORKSTATION)),
    ("tracker-missing", make_context(TRACKING, logging={"report_to": "aim"})),
    ("tracker-missing", make_context(logging={"report_to": "none"})),
    ("tracker-online", make_context(TRACKING, logging={"report_to": "wandb"})),
    ("tracker-online", make_context(logging={"wandb_mode": "online"})),
    ("privacy-package", make_context(replace(LAPTOP, packages=("opacus",)), **PRIVATE)),
    ("privacy-few-rows", make_context()),
    ("privacy-precision", make_context(replace(AMPERE, packages=("opacus",)), **PRIVATE)),
    ("privacy-spent", make_context(privacy={"epsilon": 3})),
    ("privacy-evaluation", make_context(eval_split=0, **PRIVATE)),
    ("merge-memory", make_context(WORKSTATION, LLAMA_8B, **MERGED)),
    ("merge-quantized", make_context(WORKSTATION, replace(LLAMA_8B, quantization="4-bit"))),
    ("log-file", make_context(logging={"log_file": "~/run.log"})),
    ("tracker-folder", make_context(logging={"repo": "/no/such/folder/aim"})),
    ("nothing-quantized", make_context(WORKSTATION, quantization={"skip_first_layers": 29})),
    ("skip-unused", make_context(WORKSTATION, quantization={"skip_first_layers": 1})),
    ("setting-unused", make_context(strategy="dpo", trainer={"preference_beta": 0.5})),
    (
        "setting-unused",
        make_context(strategy="rlhf", trainer={"reward": "length", "reward_words": 5}),
    ),
    ("setting-unused", make_context(trainer={"kl_beta": 0.05})),
    ("schedule-too-long", make_context(lr_scheduler_type="wsd", schedule={"decay_steps": 20})),
    ("warm-up-too-long", make_context(schedule={"warmup_steps": 5})),
    (
        "schedule-without-effect",
        make_context(lr_scheduler_type="reduce_lr_on_plateau", max_steps=60, eval_steps=20),
    ),
    ("schedule-without-effect", make_context(max_steps=2)),
    ("paging-unsupported", make_context(WORKSTATION, optim="paged_adamw_8bit")),
    ("paging-unsupported", make_context(replace(WORKSTATION, system="Windows 11"))),
    ("quantized-card", make_context(PASCAL, **scheme("fp8-weight-only"))),
    ("model-wrong-kind", make_context(info=replace(STARTER, kind="unknown"))),
    ("model-wrong-kind", make_context(info=BERT, task="extractive-question-answering")),
    ("model-already-quantized", make_context(WORKSTATION, replace(STARTER, quantization="4-bit"))),
    ("device-missing", make_context(WORKSTATION, hardware={"device": "cuda"})),
    ("device-missing", make_context(WORKSTATION, hardware={"device": "cpu"})),
    ("gpu-missing", make_context(WORKSTATION)),
    ("torch-unsuited", make_context(WORKSTATION)),
    ("torch-unsuited", make_context(replace(WORKSTATION, torch_cuda="12.6"))),
    ("torch-unsuited", make_context(CPU_BUILD, hardware={"device": "cpu"})),
    ("torch-unsuited", make_context(replace(LAPTOP, torch_cuda=""))),
    ("gpu-missing", make_context(hardware={"gpu_index": 3})),
    ("bf16-card", make_context(with_card(compute_capability=(8, 0)), bf16=True)),
    ("bf16-card", make_context(with_card(compute_capability=None), bf16=True)),
    ("bf16-card", make_context(OLD, fp16=True)),
    ("fp16-on-cpu", make_context(OLD, fp16=True)),
    ("fp16-overflow", make_context(OLD)),
    ("fp16-overflow", make_context(AMPERE, GEMMA)),
    ("fp16-overflow", make_context(OLD, GEMMA, hardware={"precision": "fp32"})),
    ("bf16-on-cpu", make_context()),
    ("bf16-on-cpu", make_context(replace(LAPTOP, cpu_flags=("amx_bf16",)), bf16=True)),
    ("quantized-slow", make_context(WORKSTATION)),
    ("quantized-card", make_context(OLD)),
    ("vram-held", make_context(WORKSTATION)),
    ("vram-held", make_context(with_card(other_gib=None))),
    ("profile-differs", make_context()),
    ("memory-base", make_context(WORKSTATION, LLAMA_8B)),
    ("memory-base", make_context(with_card(total_gib=None, free_gib=None), LLAMA_8B)),
    ("memory-short", make_context(WORKSTATION, LLAMA_8B)),
    ("memory-option", make_context(WORKSTATION, LLAMA_8B)),
    ("memory-short", make_context(TINY_CARD, LLAMA_8B)),
    ("ram-short", make_context()),
    ("ram-short", make_context(replace(LAPTOP, ram_free_gib=None))),
    ("memory-unknown", make_context(info=None)),
    ("disk-full", make_context(replace(LAPTOP, disk_free_gib=1.0))),
    ("disk-short", make_context()),
    ("disk-short", make_context(replace(LAPTOP, disk_free_gib=None))),
    ("no-training-rows", make_context(eval_split=0.99)),
    ("no-eval-rows", make_context(summary=with_rows(rows=1), eval_split=0)),
    ("no-evaluation", make_context(eval_split=0.1)),
    ("rows-cut", make_context()),
    ("rows-cut", make_context(summary=LONG, packing=True)),
    ("few-updates", make_context()),
    ("few-updates", make_context(summary=None)),
    ("checks-slow", make_context(summary=with_rows(rows=9000), eval_steps=360)),
    ("checks-slow", make_context(summary=with_rows(rows=9000), eval_steps=2, eval_split=0)),
    ("learning-rate-unusual", make_context(learning_rate=5e-4)),
    ("learning-rate-unusual", make_context(WORKSTATION, strategy="dpo", learning_rate=5e-7)),
    ("dropout-of-everything", make_context(strategy="dpo", lora_dropout=1.0)),
    ("dropout-high", make_context(lora_dropout=0.5)),
    ("alpha-below-rank", make_context(lora_r=32)),
    ("muon-on-adapter", make_context(optim="muon", adapter={"enabled": False}, use_4bit=False)),
    ("alpha-below-rank", make_context(lora_r=64, adapter={"use_rslora": True})),
    ("plan-changed", make_context(max_seq_length=512, eval_steps=10)),
    ("no-chat-template", make_context()),
    ("chat-template-file", make_context(model={"chat_template": "qwen"})),
    ("chat-template-file", make_context()),
    ("remote-code-off", make_context()),
]


def findings_with_code(context, code):
    return [finding for finding in findings_of(context) if finding.code == code]


@pytest.mark.parametrize(
    ("code", "level", "where", "suggested", "context"), FOUND, ids=[shown[0] for shown in FOUND]
)
def test_a_finding_names_its_level_setting_and_better_value(code, level, where, suggested, context):
    found = [
        (finding.level, finding.where, finding.suggested)
        for finding in findings_with_code(context, code)
    ]
    assert (level, where, suggested) in found


@pytest.mark.parametrize(("code", "context"), NOT_FOUND, ids=[quiet[0] for quiet in NOT_FOUND])
def test_a_suitable_run_has_no_finding(code, context):
    assert findings_with_code(context, code) == []


def test_every_code_is_tested_with_and_without_a_finding():
    assert {shown[0] for shown in FOUND} == {quiet[0] for quiet in NOT_FOUND}


def test_every_check_is_in_the_list_once():
    modules = (
        data,
        engine,
        growing,
        layers,
        logs,
        machine,
        model,
        pretraining,
        privacy,
        provider,
        quantization,
        ranks,
        resources,
        settings,
    )
    defined = [
        member
        for module in modules
        for member in vars(module).values()
        if getattr(member, "__module__", "") == module.__name__
        and getattr(member, "__annotations__", {}).get("return") == "Iterator[Finding]"
    ]
    listed = (*run.LOADING_CHECKS, *run.FIT_CHECKS, *run.TRAINING_CHECKS)
    assert sorted(listed, key=repr) == sorted(defined, key=repr)


@pytest.mark.parametrize("shown", FOUND, ids=[shown[0] for shown in FOUND])
def test_messages_are_sentences_with_rounded_numbers(shown):
    for finding in findings_of(shown[4]):
        assert re.fullmatch(r"[a-z0-9-]+", finding.code)
        for text in filter(None, (finding.what, finding.remedy)):
            assert text.endswith("."), text
            assert not re.search(r"\d\.\d{2,} GiB|None|True|False|  ", text), text


def test_a_sound_run_has_no_blockers_and_no_cautions():
    for context in (make_context(), make_context(WORKSTATION, LLAMA_8B)):
        assert {one.level for one in findings_of(context)} <= {"note"}


def test_blockers_come_first_and_notes_last():
    context = make_context(fp16=True, learning_rate=0.5, optim="paged_adamw_32bit")
    levels = [one.level for one in findings_of(context)]
    assert levels == sorted(levels, key=("blocker", "caution", "note").index)
    assert set(levels) == {"blocker", "caution", "note"}


def test_what_the_data_check_found_is_passed_on_as_it_is():
    odd = Finding("caution", "duplicate-rows", "3 rows repeat an earlier one.", where="dataset")
    assert odd in findings_of(make_context(summary=with_rows(findings=[odd])))


def test_a_computer_that_is_merely_busy_is_not_refused():
    """It can swap and drop caches, which a GPU cannot."""
    busy = replace(LAPTOP, ram_total_gib=64.0, ram_free_gib=6.0)
    findings = findings_of(make_context(busy, LLAMA_8B, use_4bit=False))
    assert "memory-base" not in {one.code for one in findings}
    assert [one.level for one in findings if one.code == "ram-short"] == ["caution"]


def test_a_card_that_is_merely_busy_is_reported_as_busy():
    [found] = findings_with_code(make_context(BUSY_CARD, LLAMA_8B), "memory-base")
    assert "6.5 GiB" in found.remedy


def test_when_nothing_makes_it_fit_the_largest_model_that_does_is_named():
    [found] = findings_with_code(make_context(TINY_CARD, LLAMA_8B), "memory-base")
    assert "The largest model that fits is Qwen/Qwen3-1.7B" in found.remedy


def test_an_unused_default_is_not_reported_as_changed():
    """With every weight trained nobody is told that 4-bit weights, never chosen, are off."""

    def reported(**shown):
        return {found.where for found in settings.plan_changes(make_context(**shown))}

    whole = {"adapter": {"enabled": False}}
    assert "use_4bit" in reported(**whole, use_4bit=True)
    unsaid = make_context(**whole)
    fields = {k: v for k, v in unsaid.config.explicit_values().items() if k != "use_4bit"}
    config = type(unsaid.config).from_record(fields)
    plan = make_plan(config, PlanContext(device="cpu", model_path="m"))
    assert "use_4bit" in {change.where for change in plan.changes}
    quiet = settings.plan_changes(replace(unsaid, config=config, plan=plan))
    assert "use_4bit" not in {found.where for found in quiet}
