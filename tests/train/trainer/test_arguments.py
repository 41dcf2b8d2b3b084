"""Each of the 33 fields of the contract: what of it reaches the libraries, or why it is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelforge.config.fields import nested_groups
from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.modeling.errors import WorkerError
from modelforge.runs.layout import RunFolder

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

REQUIRED = {
    "task": "text-generation",
    "model_name": "tiny",
    "dataset": "rows.jsonl",
    "compute_specs": "low_end",
}


def reached(
    tmp_path: Path, device: Any = "cpu", packages: frozenset[str] = frozenset(), **answers: Any
) -> SimpleNamespace:
    """Return what the answers become: TRL's and PEFT's settings and the quantization."""
    from modelforge.modeling.adapters.lora import lora_config
    from modelforge.modeling.providers.quantization import quantization_config
    from modelforge.train.job import Job
    from modelforge.train.strategies.sft import training_arguments

    config = TrainingConfig.from_record(REQUIRED | answers)
    facts = PlanContext(device, "models/tiny", context=8192, train_rows=1000, packages=packages)
    plan = make_plan(config, facts)
    evaluates = config.eval_split > 0
    job = Job(RunFolder(tmp_path), "a try", config, plan, {})
    return SimpleNamespace(
        plan=plan,
        trl=training_arguments(job, evaluates=evaluates),
        lora=lora_config(config, plan),
        bits=quantization_config(plan, config),
    )


def dtype(name: str) -> Any:
    import torch

    return getattr(torch, name)


Look = Callable[[SimpleNamespace], Any]

# field, answers, where it is looked for, what is found there
REACHES: list[tuple[str, dict[str, Any], Look, Any]] = [
    ("model_name", {"model_name": "other"}, lambda r: r.plan.model_path, "models/tiny"),
    ("strategy", {"strategy": "qlora"}, lambda r: r.bits.load_in_4bit, True),
    ("compute_specs", {}, lambda r: r.trl.max_length, 512),
    ("compute_specs", {"compute_specs": "mid_range"}, lambda r: r.trl.max_length, 2048),
    ("compute_specs", {"compute_specs": "high_end"}, lambda r: r.trl.max_length, 4096),
    ("lora_r", {"lora_r": 7}, lambda r: r.lora.r, 7),
    ("lora_alpha", {"lora_alpha": 9}, lambda r: r.lora.lora_alpha, 9),
    ("lora_dropout", {"lora_dropout": 0.25}, lambda r: r.lora.lora_dropout, 0.25),
    ("use_4bit", {"use_4bit": True}, lambda r: r.bits.load_in_4bit, True),
    ("use_4bit", {"use_4bit": False}, lambda r: r.bits, None),
    ("use_4bit", {}, lambda r: r.bits, None),
    ("use_8bit", {"use_4bit": False, "use_8bit": True}, lambda r: r.bits.load_in_8bit, True),
    (
        "bnb_4bit_compute_dtype",
        {"use_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"},
        lambda r: r.bits.bnb_4bit_compute_dtype == dtype("bfloat16"),
        True,
    ),
    (
        "bnb_4bit_compute_dtype",
        {"use_4bit": True},
        lambda r: r.bits.bnb_4bit_compute_dtype == dtype("float32"),
        True,
    ),
    (
        "bnb_4bit_quant_type",
        {"use_4bit": True, "bnb_4bit_quant_type": "fp4"},
        lambda r: r.bits.bnb_4bit_quant_type,
        "fp4",
    ),
    ("bnb_4bit_quant_type", {"use_4bit": True}, lambda r: r.bits.bnb_4bit_quant_type, "nf4"),
    ("use_nested_quant", {"use_4bit": True}, lambda r: r.bits.bnb_4bit_use_double_quant, False),
    (
        "use_nested_quant",
        {"use_4bit": True, "use_nested_quant": True},
        lambda r: r.bits.bnb_4bit_use_double_quant,
        True,
    ),
    ("fp16", {"fp16": True}, lambda r: (r.trl.fp16, r.trl.bf16), (True, False)),
    ("bf16", {"bf16": True}, lambda r: (r.trl.fp16, r.trl.bf16), (False, True)),
    ("bf16", {}, lambda r: (r.trl.fp16, r.trl.bf16), (False, False)),
    ("num_train_epochs", {"num_train_epochs": 3}, lambda r: r.trl.num_train_epochs, 3),
    (
        "per_device_train_batch_size",
        {"per_device_train_batch_size": 5},
        lambda r: r.trl.per_device_train_batch_size,
        5,
    ),
    (
        "per_device_eval_batch_size",
        {"per_device_eval_batch_size": 6},
        lambda r: r.trl.per_device_eval_batch_size,
        6,
    ),
    (
        "gradient_accumulation_steps",
        {"gradient_accumulation_steps": 7},
        lambda r: r.trl.gradient_accumulation_steps,
        7,
    ),
    (
        "gradient_checkpointing",
        {},
        lambda r: (r.trl.gradient_checkpointing, r.trl.gradient_checkpointing_kwargs),
        (True, {"use_reentrant": False}),
    ),
    (
        "gradient_checkpointing",
        {"gradient_checkpointing": False},
        lambda r: r.trl.gradient_checkpointing,
        False,
    ),
    ("max_grad_norm", {"max_grad_norm": 0}, lambda r: r.trl.max_grad_norm, 0),
    ("max_grad_norm", {"max_grad_norm": 1.5}, lambda r: r.trl.max_grad_norm, 1.5),
    ("learning_rate", {"learning_rate": 3e-3}, lambda r: r.trl.learning_rate, 3e-3),
    ("weight_decay", {"weight_decay": 0.2}, lambda r: r.trl.weight_decay, 0.2),
    ("optim", {"optim": "sgd"}, lambda r: r.trl.optim, "sgd"),
    ("optim", {"optim": "adamw_8bit"}, lambda r: r.trl.optim, "adamw_8bit"),
    ("optim", {}, lambda r: r.trl.optim, "adamw_torch"),
    ("lr_scheduler_type", {}, lambda r: r.trl.lr_scheduler_type, "cosine"),
    (
        "lr_scheduler_type",
        {"lr_scheduler_type": "constant"},
        lambda r: r.trl.lr_scheduler_type,
        "constant_with_warmup",
    ),
    (
        "lr_scheduler_type",
        {"lr_scheduler_type": "polynomial", "learning_rate": 1e-7},
        lambda r: r.trl.lr_scheduler_kwargs["lr_end"] < r.trl.learning_rate,
        True,
    ),
    ("max_steps", {"max_steps": 11}, lambda r: r.trl.max_steps, 11),
    ("max_steps", {}, lambda r: r.trl.max_steps, -1),
    ("warmup_ratio", {"warmup_ratio": 0.5}, lambda r: r.trl.get_warmup_steps(100), 50),
    ("warmup_ratio", {"warmup_ratio": 0}, lambda r: r.trl.get_warmup_steps(100), 0),
    (
        "warmup_ratio",
        {"warmup_ratio": 1, "max_steps": 40},
        lambda r: r.trl.get_warmup_steps(40),
        40,
    ),
    ("group_by_length", {}, lambda r: r.trl.train_sampling_strategy, "group_by_length"),
    (
        "group_by_length",
        {"group_by_length": False},
        lambda r: r.trl.train_sampling_strategy,
        "random",
    ),
    (
        "packing",
        {"packing": True},
        lambda r: (r.trl.packing, r.trl.packing_strategy),
        (True, "bfd"),
    ),
    ("packing", {}, lambda r: r.trl.packing, False),
    ("max_seq_length", {"max_seq_length": 333}, lambda r: r.trl.max_length, 333),
    ("max_seq_length", {"max_seq_length": -1}, lambda r: r.trl.max_length, 512),
    ("eval_split", {"eval_split": 0}, lambda r: r.trl.eval_strategy, "no"),
    ("eval_split", {"eval_split": 0.5}, lambda r: r.trl.eval_strategy, "steps"),
    (
        "eval_steps",
        {"eval_steps": 17},
        lambda r: (r.trl.eval_steps, r.trl.save_steps, r.trl.load_best_model_at_end),
        (17, 17, True),
    ),
]
# field, answers, the kind of model, the trainer that does the work
BECOMES = [
    ("task", {"task": "summarization"}, "encoder-decoder", "seq2seq"),
    ("task", {"task": "summarization"}, "decoder", "sft"),
    ("task", {"task": "extractive-question-answering"}, "encoder", "span"),
    ("task", {"task": "extractive-question-answering"}, "decoder", "sft"),
    ("strategy", {"strategy": "dpo"}, "decoder", "dpo"),
    ("strategy", {"strategy": "rlhf"}, "decoder", "rlhf"),
]
# What the data and the model become is shown on whole runs in test_worker.py, and what the
# provider unsloth is asked for in test_unsloth.py.
SHOWN_ON_RUNS = {"dataset", "model_name", "fp16", "provider"}


@pytest.mark.parametrize(
    ("field", "answers", "look", "expected"),
    REACHES,
    ids=[f"{field}-{index}" for index, (field, *_) in enumerate(REACHES)],
)
def test_the_field_reaches_its_library(tmp_path, field, answers, look, expected):
    device = "cuda" if field == "fp16" else "cpu"
    assert look(reached(tmp_path, device, **answers)) == expected


@pytest.mark.parametrize(("field", "answers", "kind", "method"), BECOMES)
def test_task_and_strategy_say_which_trainer_works(field, answers, kind, method):
    config = TrainingConfig.from_record(REQUIRED | answers)
    assert getattr(config, field) == answers[field]
    assert make_plan(config, PlanContext("cpu", "models/tiny", kind=kind)).method == method


def test_every_field_of_the_contract_has_a_case():
    contract = set(TrainingConfig.model_fields) - set(nested_groups())
    proven = {field for field, *_ in (*REACHES, *BECOMES)} | SHOWN_ON_RUNS
    assert len(contract) == 33
    assert contract <= proven


def test_the_groups_reach_trl_too(tmp_path):
    trl = reached(tmp_path, trainer={"seed": 7}, logging={"logging_steps": 5}).trl
    assert (trl.seed, trl.data_seed, trl.logging_steps) == (7, 7, 5)
    assert trl.use_cpu
    assert trl.report_to == []
    # Old checkpoints are deleted by our own hand, once the new one is safe.
    assert trl.save_total_limit is None


# answers, where it is looked for, what is found there
GROUPS: list[tuple[dict[str, Any], Look, Any]] = [
    (
        {"optimizer": {"beta1": 0.8, "beta2": 0.99, "epsilon": 1e-6}},
        lambda r: (r.trl.adam_beta1, r.trl.adam_beta2, r.trl.adam_epsilon),
        (0.8, 0.99, 1e-6),
    ),
    ({}, lambda r: (r.trl.adam_beta1, r.trl.adam_beta2, r.trl.adam_epsilon), (0.9, 0.999, 1e-8)),
    ({"trainer": {"neftune_noise_alpha": 5}}, lambda r: r.trl.neftune_noise_alpha, 5),
    ({}, lambda r: r.trl.neftune_noise_alpha, None),
    ({"schedule": {"warmup_steps": 7}}, lambda r: r.trl.get_warmup_steps(100), 7),
    ({"schedule": {"warmup_steps": 0}}, lambda r: r.trl.get_warmup_steps(100), 0),
    (
        {"schedule": {"final_lr_fraction": 0.1}},
        lambda r: (r.trl.lr_scheduler_type, r.trl.lr_scheduler_kwargs),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
    ),
    ({"model": {"attn_implementation": "eager"}}, lambda r: r.plan.attn_implementation, "eager"),
    ({"adapter": {"enabled": False}}, lambda r: (r.lora, r.bits), (None, None)),
    ({}, lambda r: r.lora.target_modules, "all-linear"),
    (
        {"adapter": {"target_modules": "q_proj, v_proj"}},
        lambda r: r.lora.target_modules,
        {"q_proj", "v_proj"},
    ),
    ({"adapter": {"modules_to_save": "norm"}}, lambda r: r.lora.modules_to_save, ["norm"]),
    ({}, lambda r: r.lora.modules_to_save, None),
    ({"adapter": {"use_rslora": True}}, lambda r: r.lora.use_rslora, True),
    ({"adapter": {"use_dora": True}}, lambda r: r.lora.use_dora, True),
    ({"adapter": {"alpha_over_r": 0.5}}, lambda r: r.lora.lora_alpha, 8),
    ({"adapter": {"init": "gaussian"}}, lambda r: r.lora.init_lora_weights, "gaussian"),
    ({"adapter": {"init": "orthogonal"}}, lambda r: r.lora.init_lora_weights, "orthogonal"),
    ({"adapter": {"init": "pissa"}}, lambda r: r.lora.init_lora_weights, True),
    ({"quantization": {"scheme": "bnb-8bit"}}, lambda r: r.bits.load_in_8bit, True),
    ({"quantization": {"scheme": "none"}}, lambda r: r.bits, None),
    (
        {"strategy": "rlhf", "trainer": {"num_generations": 6}},
        lambda r: r.trl.gradient_accumulation_steps,
        6,
    ),
    ({"hardware": {"precision": "bf16"}}, lambda r: (r.trl.fp16, r.trl.bf16), (False, True)),
    ({"evaluation": {"keep_best": False}}, lambda r: r.trl.load_best_model_at_end, False),
    ({"trainer": {"save_steps": 50}}, lambda r: r.trl.save_steps, 100),
    (
        {"trainer": {"save_steps": 50}, "evaluation": {"keep_best": False}},
        lambda r: r.trl.save_steps,
        50,
    ),
]


@pytest.mark.parametrize(
    ("answers", "look", "expected"), GROUPS, ids=[str(answers) for answers, *_ in GROUPS]
)
def test_a_setting_beyond_the_contract_reaches_its_library(tmp_path, answers, look, expected):
    assert look(reached(tmp_path, **answers)) == expected


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split", "wrapped"])
def test_the_packing_strategy_reaches_trl(tmp_path, strategy):
    trl = reached(tmp_path, packing=True, data={"packing_strategy": strategy}).trl
    assert (trl.packing, trl.packing_strategy, trl.max_length) == (True, strategy, 512)


def test_speed_settings_reach_their_libraries(tmp_path, monkeypatch):
    from modelforge.train.trainer import arguments

    assert reached(tmp_path, data={"num_workers": 3}).trl.dataloader_num_workers == 3
    assert reached(tmp_path).trl.torch_compile is False
    compiling = {"trainer": {"torch_compile": True}}
    compilers = frozenset({"c++", "Python.h"})
    assert reached(tmp_path, packages=compilers, **compiling).trl.torch_compile is True
    monkeypatch.setattr(arguments.sys, "platform", "win32")
    assert reached(tmp_path, data={"num_workers": 3}).trl.dataloader_num_workers == 0


@pytest.mark.parametrize(
    ("mode", "device", "packages", "expected"),
    [
        ("default", "cuda", {"triton", "cc"}, (True, None)),
        ("reduce-overhead", "cuda", {"triton", "cc"}, (True, "reduce-overhead")),
        ("max-autotune-no-cudagraphs", "cpu", {"c++"}, (True, "max-autotune-no-cudagraphs")),
        ("reduce-overhead", "cpu", {"c++"}, (True, None)),
        ("reduce-overhead", "cuda", set(), (False, None)),
    ],
)
def test_the_compiler_mode_reaches_torch(tmp_path, mode, device, packages, expected):
    found = reached(
        tmp_path,
        device,
        frozenset({*packages, "Python.h"}),
        use_4bit=False,
        trainer={"torch_compile": True},
        hardware={"torch_compile_mode": mode, "precision": "fp32"},
    )
    assert (found.trl.torch_compile, found.trl.torch_compile_mode) == expected


def test_a_compiler_mode_alone_does_not_compile(tmp_path):
    trl = reached(tmp_path, hardware={"torch_compile_mode": "max-autotune"}).trl
    assert (trl.torch_compile, trl.torch_compile_mode) == (False, None)


@pytest.mark.parametrize("is_regional", [True, False])
def test_one_layer_is_compiled_for_all(bench, tiny_model, tmp_path, monkeypatch, is_regional):
    import torch
    from accelerate.state import AcceleratorState
    from datasets import Dataset

    from modelforge.modeling.providers.huggingface import load
    from modelforge.modeling.tokenize.dataset import Tokenized
    from modelforge.train.job import Job
    from modelforge.train.strategies.sft import build_trainer

    compiled = []
    monkeypatch.setattr(
        torch, "compile", lambda module, **_: compiled.append(type(module).__name__) or module
    )
    config = TrainingConfig(
        **REQUIRED,
        trainer={"torch_compile": True},
        hardware={"regional_compilation": is_regional},
    )
    packages = frozenset({"c++", "Python.h"})
    plan = make_plan(config, PlanContext("cpu", str(tiny_model), context=512, packages=packages))
    assert plan.torch_compile
    rows = Dataset.from_dict({"input_ids": [[1, 5, 2]] * 4, "labels": [[-100, 5, 2]] * 4})
    job = Job(RunFolder(tmp_path), "a try", config, plan, {})
    loaded = load(plan, config, lambda _done, _total: None)
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        trainer = build_trainer(job, loaded, Tokenized(rows, None))
        trainer.accelerator.prepare_model(trainer.model)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    assert (compiled.count("LlamaDecoderLayer") == 2) is is_regional
    assert ("PeftModelForCausalLM" in compiled) is not is_regional


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"gradient_checkpointing": False}, True),
        ({"gradient_checkpointing": True}, False),
        ({"gradient_checkpointing": False, "strategy": "rlhf"}, False),
    ],
)
def test_all_activations_are_offloaded_without_recomputation(tmp_path, settings, expected):
    found = reached(tmp_path, "cuda", memory={"activation_offload": True}, **settings)
    assert found.trl.activation_offloading is expected
    assert found.plan.activation_offload is (settings.get("strategy") != "rlhf")
    on_cpu = reached(tmp_path, memory={"activation_offload": True}, **settings)
    assert not on_cpu.trl.activation_offloading
    assert "needs an NVIDIA GPU" in next(
        change.reason
        for change in on_cpu.plan.changes
        if change.where == "memory.activation_offload"
    )


def test_padding_free_passes_no_max_length_to_trl(tmp_path):
    trl = reached(tmp_path, data={"padding_free": True}).trl
    assert (trl.padding_free, trl.max_length) == (True, None)
    packed = reached(tmp_path, packing=True, data={"padding_free": True}).trl
    assert (packed.padding_free, packed.max_length) == (True, 512)


def test_the_optimizer_and_schedule_are_the_ones_asked_for(bench, tiny_model, tmp_path):
    import torch
    from datasets import Dataset

    from modelforge.modeling.providers.huggingface import load
    from modelforge.modeling.tokenize.dataset import Tokenized
    from modelforge.train.job import Job
    from modelforge.train.strategies.sft import build_trainer

    config = TrainingConfig(
        **REQUIRED,
        use_4bit=False,
        optim="sgd",
        learning_rate=0.5,
        weight_decay=0.25,
        lr_scheduler_type="linear",
        warmup_ratio=0,
        lora_r=3,
    )
    plan = make_plan(config, PlanContext("cpu", str(tiny_model), context=512))
    loaded = load(plan, config, lambda _done, _total: None)
    rows = Dataset.from_dict({"input_ids": [[1, 5, 2]] * 4, "labels": [[-100, 5, 2]] * 4})
    job = Job(RunFolder(tmp_path), "a try", config, plan, {})
    trainer = build_trainer(job, loaded, Tokenized(rows, None))
    trainer.create_optimizer_and_scheduler(10)
    group = trainer.optimizer.param_groups[0]
    assert isinstance(trainer.optimizer, torch.optim.SGD)
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)
    trainable = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in trainable)
    assert min(min(p.shape) for p in trainable.values()) == 3
    assert len(trainable) == 2 * 7 * 2  # two layers, seven linear maps, two matrices each


def test_fp16_on_the_cpu_is_refused(tmp_path):
    from modelforge.train.job import Job
    from modelforge.train.strategies.sft import training_arguments

    config = TrainingConfig(**REQUIRED, fp16=True)
    plan = make_plan(config, PlanContext("cpu", "models/tiny", context=512))
    with pytest.raises(WorkerError, match="needs a GPU") as refused:
        training_arguments(Job(RunFolder(tmp_path), "a try", config, plan, {}), evaluates=False)
    assert refused.value.cause == "fp16-needs-gpu"
