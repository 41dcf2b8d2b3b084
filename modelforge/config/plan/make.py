"""The effective plan: what a config amounts to on this machine, with a reason for every change.

A config is never altered. The worker reads the plan; the run folder keeps both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter

from modelforge.config.exporters.surogate import unread_settings
from modelforge.config.methods import METHOD_FACTS, Method, MethodFacts, facts_of, method_of
from modelforge.config.optimizers import StorageFormat
from modelforge.config.plan import memory, ranks, run_length, training, weights
from modelforge.config.plan.context import Change, ChangeLog, Device, PlanContext
from modelforge.config.plan.growing import GrowthPlan, growth_plan, length_fields
from modelforge.config.plan.pretraining import (
    PretrainingPlan,
    effective_settings,
    pretraining_plan,
)
from modelforge.config.plan.rope import ContextPlan, context_plan
from modelforge.config.profiles import profile_length
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.model import is_hub_kernel
from modelforge.config.schema.runtime import Sharding

__all__ = ["Change", "Device", "Plan", "PlanContext", "make_plan"]

# Trained tokens per chunk of the loss. TRL uses 256 and fills the last chunk with untrained tokens:
# on a CPU, where a packed batch trains about a hundred tokens, chunks of 64 made the starter model
# 1.28 times as fast.
DEFAULT_LOSS_PIECE = 256
LOSS_PIECE = {"cpu": 64}
DEFAULT_COMPLETION = 256
MANY_ROWS = 10_000
_CHANGES = TypeAdapter(list[Change])
_PRETRAINING = TypeAdapter(PretrainingPlan | None)
_GROWING = TypeAdapter(GrowthPlan | None)


@dataclass(frozen=True)
class Plan:
    """The effective settings of a run, by the names of TRL and PEFT.

    Attributes:
        method: The training method, which selects the trainer.
        trains: Which weights are trained.
        lora_alpha, max_completion_length: The effective values.
        gradient_accumulation_steps: Batches of a step on each GPU.
        save_steps: Steps between checkpoints; -1 saves at the end only.
        eval_steps: Steps between evaluations; None without evaluation.
        total_steps: Optimizer steps of the run; None while the number of rows is unknown.
        length_by: The setting that decides the length of the run.
        epochs, tokens, flops: The length in other measures; None where it is unknown.
        flops_per_token: Operations of a token, where `trainer.target_flops` decides.
        learning_rate: The highest rate of the schedule.
        reward_steps: Optimizer steps of a stage before, which trains a reward model.
        warmup_steps: Below 1 a share of the run, else a number of steps.
        start_from: Folder of the adapter that training starts from.
        resume_from: Folder of the checkpoint of another run that this one resumes from.
        tokenizer_path: Folder of a tokenizer of another model; None for the model's own.
        loss_piece: Trained tokens per chunk of the loss.
        torch_compile_mode: Mode of torch.compile; None without it.
        fp8_recipe: Scaling of FP8 products in training; None multiplies in the precision.
        activation_offload: Whether activations wait in the memory of the computer.
        max_vram_fraction: Share of the GPU's memory that the run may use.
        compiles_kernels: Whether TRL may use its Triton kernels, which are compiled on first use.
        dtype: Number format of the weights that are not quantized; None in older plans.
        rope_type, rope_factor: The scaling of the rotary position embeddings; none and 1 without.
        max_model_len: The scaled context length in tokens; None without scaling.
        pretraining: Shape, length, batch and rates of a training from nothing; None for others.
        growing: Stages of a growing model; None for others.
        ranks: Processes that train together, one per GPU.
        sharding: What they divide; none for one process.
        sequence_parallel_size: Processes that share the tokens of one row.
        rank_batch_size: Rows of a batch on each GPU; None for those of the setting.
    """

    model_path: str
    model_revision: str | None
    device: Device
    precision: Literal["fp32", "fp16", "bf16"]
    quantization: StorageFormat
    bnb_4bit_compute_dtype: str
    max_length: int
    optim: str
    lr_scheduler_type: str
    lr_scheduler_kwargs: dict[str, Any]
    warmup_steps: float
    eval_steps: int | None
    total_steps: int | None
    lora_alpha: int
    gradient_accumulation_steps: int
    save_steps: int
    group_by_length: bool = True
    method: Method = "sft"
    trains: Literal["adapter", "all"] = "adapter"
    attn_implementation: str = "sdpa"
    adapter_dtype: Literal["float32", "bfloat16"] = "float32"
    start_from: str | None = None
    resume_from: str | None = None
    tokenizer_path: str | None = None
    torch_compile: bool = False
    torch_compile_mode: str | None = None
    activation_offload: bool = False
    fp8_recipe: str | None = None
    max_vram_fraction: float = 1.0
    num_workers: int = 0
    loss_piece: int = DEFAULT_LOSS_PIECE
    max_completion_length: int = DEFAULT_COMPLETION
    reward_steps: int | None = None
    compiles_kernels: bool = True
    dtype: weights.WeightsDtype | None = None
    rope_type: str = "none"
    rope_factor: float = 1.0
    max_model_len: int | None = None
    length_by: str = "num_train_epochs"
    epochs: float | None = None
    tokens: int | None = None
    flops: float | None = None
    flops_per_token: float | None = None
    learning_rate: float | None = None
    pretraining: PretrainingPlan | None = None
    growing: GrowthPlan | None = None
    ranks: int = 1
    sharding: Sharding = "none"
    sequence_parallel_size: int = 1
    rank_batch_size: int | None = None
    changes: list[Change] = field(default_factory=list)

    @property
    def replicas(self) -> int:
        """Processes, or groups that share a row, which read different rows."""
        return ranks.Ranks(self.ranks, self.sharding, self.sequence_parallel_size).replicas

    @property
    def divides_weights(self) -> bool:
        """Whether no GPU holds the whole model, which is divided when the training starts."""
        return self.sharding in ("fsdp2", "zero3")

    @property
    def facts(self) -> MethodFacts:
        """The facts of the training method."""
        return METHOD_FACTS[self.method]

    @property
    def is_from_nothing(self) -> bool:
        """Whether the run makes its model, so that there is no base model."""
        grows = self.growing is not None and self.growing.base_layers == 0
        return grows or self.pretraining is not None

    @property
    def weights_dtype(self) -> weights.WeightsDtype:
        """The number format of the weights that are not quantized."""
        return self.dtype or weights.usual_dtype(self.precision, self.trains)

    @property
    def local_attention(self) -> str:
        """The attention for everything but training, which loads no kernel of the Hub."""
        is_kernel = is_hub_kernel(self.attn_implementation)
        return "sdpa" if is_kernel else self.attn_implementation

    @property
    def trained_bytes(self) -> int:
        """The bytes of a trained weight, which are those of its gradient too."""
        dtype = self.adapter_dtype if self.trains == "adapter" else self.weights_dtype
        return 4 if dtype == "float32" else 2

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return {**asdict(self), "changes": _CHANGES.dump_python(self.changes, by_alias=True)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], config: Mapping[str, Any]) -> Plan:
        """Read what `as_dict` returned, in this or an earlier release.

        Values that earlier releases left out are taken from `config`, the config of the record.
        """
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        for name, value in _configured(config, data).items():
            if known.get(name) is None:
                known[name] = value
        known["growing"] = _GROWING.validate_python(known.get("growing"))
        known["pretraining"] = _PRETRAINING.validate_python(known.get("pretraining"))
        return cls(**{**known, "changes": _CHANGES.validate_python(data["changes"])})


def _configured(config: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plan's values that were only in the config of the first releases."""
    fields = TrainingConfig.model_fields
    names = ("lora_alpha", "gradient_accumulation_steps", "eval_steps")
    values = {name: config.get(name, fields[name].default) for name in names}
    eval_steps = values.pop("eval_steps")
    completion = config.get("trainer", {}).get("max_completion_length", DEFAULT_COMPLETION)
    values["max_completion_length"] = completion
    return {**values, "save_steps": plan.get("eval_steps") or eval_steps}


def make_plan(config: TrainingConfig, context: PlanContext) -> Plan:
    """Return the effective plan. Pure; never fails for a valid config."""
    plan = _make(config, context, _without_effect(config, context))
    plan.changes.extend(unread_settings(config, plan))
    return plan


def _make(config: TrainingConfig, context: PlanContext, log: ChangeLog) -> Plan:
    used = ranks.plan_ranks(config, context, log)
    quantization = weights.quantization(config, context.device, log)
    precision = weights.precision(config, context)
    window = context_plan(config, context, log)
    length = _max_length(config, context, window, log)
    config = training.with_learning_rate(config, context, log)
    growing = growth_plan(config, context, length, log)
    planned = None if growing else pretraining_plan(config, context, length, log)
    config = config.with_changes(effective_settings(planned, config)) if planned else config
    measured = length_fields(config, growing) or _run_length(
        config, context, window, length, log, planned
    )
    # A growing model is evaluated in each stage.
    total = growing.stage_steps if growing else measured["total_steps"]
    eval_steps = training.eval_interval(config, total, log)
    scheduler, scheduler_kwargs = training.scheduler(config, log)
    return Plan(
        **_of_context(context),
        precision=precision,
        quantization=quantization,
        bnb_4bit_compute_dtype=weights.compute_dtype(config, precision, quantization, log),
        max_length=length,
        optim=ranks.sharded_optim(training.optim(config, context, log), used, log),
        group_by_length=_group_by_length(config, log),
        lr_scheduler_type=scheduler,
        lr_scheduler_kwargs=scheduler_kwargs,
        warmup_steps=training.warmup(config, total),
        eval_steps=eval_steps,
        **measured,
        **_weights(config, context, precision, log),
        **ranks.rank_fields(config, training.accumulation(config, log), used, log),
        save_steps=training.save_interval(config, eval_steps, log),
        resume_from=run_length.resume_from(config, context, log),
        **_of_device(config, context, quantization, log),
        max_completion_length=training.completion_length(config, length, log),
        **window.as_fields(),
        changes=log.changes,
    )


def _of_context(context: PlanContext) -> dict[str, Any]:
    """Return the fields of the plan that say where things are."""
    names = ("device", "model_path", "model_revision", "start_from", "tokenizer_path")
    return {name: getattr(context, name) for name in names}


def _weights(
    config: TrainingConfig, context: PlanContext, precision: str, log: ChangeLog
) -> dict[str, Any]:
    """Return the fields of the plan about method, attention, adapter and number format."""
    return {
        "method": method_of(config, context.kind),
        "trains": "adapter" if config.adapter.enabled else "all",
        "attn_implementation": weights.attention(config, context, precision, log),
        "lora_alpha": weights.lora_alpha(config, log),
        "adapter_dtype": weights.adapter_dtype(config, precision, log),
        "dtype": weights.dtype(config, precision, log),
    }


def _run_length(
    config: TrainingConfig,
    context: PlanContext,
    window: ContextPlan,
    length: int,
    log: ChangeLog,
    planned: PretrainingPlan | None,
) -> dict[str, Any]:
    """Return the fields of the plan about length and rate, and record which measure decides."""
    if planned is not None:
        return {
            "total_steps": planned.steps,
            "length_by": planned.measure,
            "epochs": planned.epochs,
            "tokens": planned.tokens,
            "flops": planned.flops,
            "flops_per_token": float(planned.shape.flops_per_token),
            "learning_rate": config.learning_rate,
            "reward_steps": None,
            "pretraining": planned,
        }
    used = run_length.run_length(config, context, length, window.rope_factor)
    run_length.record_length(config, used, log, window.rope_factor)
    return {
        "total_steps": used.steps,
        "length_by": used.measure,
        "epochs": used.epochs,
        "tokens": used.tokens,
        "flops": used.flops,
        "flops_per_token": run_length.flops_per_token(config, context, length),
        "learning_rate": config.learning_rate,
        "reward_steps": run_length.reward_steps(config, context.train_rows),
    }


def _without_effect(config: TrainingConfig, context: PlanContext) -> ChangeLog:
    """Return a log with the settings that have no effect, or another one, beside the plan."""
    log = ChangeLog(config)
    _data(config, log)
    _gpu_limits(config, context, log)
    training.lora_dropout(config, log)
    training.eval_batch_size(config, log)
    return log


def _data(config: TrainingConfig, log: ChangeLog) -> None:
    if config.data.sources and config.dataset not in {s.path for s in config.data.sources}:
        log.record("dataset", "data.sources", "Sources are given, so `dataset` is not read.")
    if config.data.validation_sources and config.eval_split > 0:
        reason = "Validation sources are given, so no rows are split off for evaluation."
        log.record("eval_split", 0, reason)


def _gpu_limits(config: TrainingConfig, context: PlanContext, log: ChangeLog) -> None:
    for name in ("max_gpu_temperature", "max_gpu_power"):
        if getattr(config.hardware, name) is not None and context.device != "cuda":
            reason = f"The limit needs an NVIDIA GPU; this run uses the device {context.device}."
            log.record(f"hardware.{name}", None, reason)


def _max_length(
    config: TrainingConfig, context: PlanContext, window: ContextPlan, log: ChangeLog
) -> int:
    limit = window.length
    if config.max_seq_length is not None and config.max_seq_length > 0:
        if limit is not None and config.max_seq_length > limit:
            reason = f"The context length of the model is {limit} tokens."
            return log.record("max_seq_length", limit, reason)
        return config.max_seq_length
    if window.rows is not None:
        reason = f"Rope scaling extends the context length to {window.length:,} tokens."
        if context.longest_row is not None and window.rows != window.length:
            reason += f" The longest row has about {context.longest_row:,} tokens."
        return log.record("max_seq_length", window.rows, reason)
    chosen = context.profile_length or profile_length(config.compute_specs)
    if limit is not None and limit < chosen:
        return log.record("max_seq_length", limit, "Set to the context length of the model.")
    reason = f"Set by the profile {config.compute_specs}."
    return log.record("max_seq_length", chosen, reason)


def _group_by_length(config: TrainingConfig, log: ChangeLog) -> bool:
    if config.packing and config.group_by_length:
        reason = "Packed sequences all have the same length."
        return log.record("group_by_length", False, reason)
    if config.group_by_length and not config.data.shuffle:
        return log.record("group_by_length", False, "The rows stay in their order.")
    facts = facts_of(config)
    if config.group_by_length and not facts.groups_by_length:
        return log.record("group_by_length", False, f"{facts.label} draws its rows at random.")
    return config.group_by_length


def _of_device(
    config: TrainingConfig, context: PlanContext, stored: str, log: ChangeLog
) -> dict[str, Any]:
    """Return the values that depend on the device; `stored` is the format of frozen weights."""
    compiles = memory.torch_compile(config, context, log)
    mode = memory.compile_mode(config, context.device, stored, log) if compiles else None
    return {
        "torch_compile": compiles,
        "torch_compile_mode": mode,
        "fp8_recipe": weights.fp8_recipe(config),
        **memory.device_memory(config, context, log),
        "num_workers": _num_workers(config, context),
        "loss_piece": LOSS_PIECE.get(context.device, DEFAULT_LOSS_PIECE),
        "compiles_kernels": not memory.missing_compilers(context),
    }


def _num_workers(config: TrainingConfig, context: PlanContext) -> int:
    if config.data.num_workers is not None:
        return config.data.num_workers
    return 2 if context.device == "cuda" and (context.train_rows or 0) >= MANY_ROWS else 0


def releases_memory(config: TrainingConfig, plan: Plan) -> bool:
    """Return whether the worker returns freed memory to the system at once, which takes time.

    On the CPU with gradient checkpointing or quantized weights: both are chosen to save memory,
    and malloc would otherwise keep what they save.
    """
    return plan.device == "cpu" and (config.gradient_checkpointing or plan.quantization != "none")
