"""The effective plan: what a config comes to on this machine, with a reason for every change.

A config is never altered. The worker reads the plan; the run keeps both.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from modelforge.config.methods import Method, method_of
from modelforge.config.optimizers import StorageFormat
from modelforge.config.plan import training as learning
from modelforge.config.plan import weights as weights
from modelforge.config.plan.context import Change, ChangeLog, Device, PlanContext
from modelforge.config.plan.training import eval_interval, total_steps
from modelforge.config.schema.config import TrainingConfig

__all__ = ["Change", "Device", "Plan", "PlanContext", "eval_interval", "make_plan", "total_steps"]

# Trained tokens whose loss is worked out at once. TRL takes 256, and fills the last piece with
# tokens that are not trained: on a CPU, where a packed batch trains about a hundred, pieces of 64
# made the starter model 1.28 times as fast.
LOSS_PIECE = {"cpu": 64}
# What torch.compile makes its code with.
COMPILERS = {"cuda": "triton", "cpu": "c++"}
MANY_ROWS = 10_000
PROFILE_LENGTH = {"low_end": 512, "mid_range": 2048, "high_end": 4096}


@dataclass(frozen=True)
class Plan:
    """What is really run. Names are TRL's and PEFT's.

    `method` is the trainer that does the work; `trains` says what learns. What is None stands in
    the config: those came later than the first plans that were written down. `save_steps` is -1
    where only the end is saved; `start_from` is the folder of the adapter that is trained on.
    `loss_piece` is how many trained tokens' loss is worked out at once.
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
    group_by_length: bool = True
    method: Method = "sft"
    trains: Literal["adapter", "all"] = "adapter"
    attn_implementation: str = "sdpa"
    lora_alpha: int | None = None
    adapter_dtype: Literal["float32", "bfloat16"] = "float32"
    gradient_accumulation_steps: int | None = None
    save_steps: int | None = None
    start_from: str | None = None
    torch_compile: bool = False
    num_workers: int = 0
    loss_piece: int = 256
    changes: list[Change] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Plan:
        """Read back what `as_dict` gave, in this release or another: runs open for ever."""
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        return cls(**{**known, "changes": [Change(**change) for change in data["changes"]]})


def make_plan(config: TrainingConfig, ground: PlanContext) -> Plan:
    """Return what `config` comes to on `ground`. Pure; never fails for a valid config."""
    ledger = ChangeLog(config)
    _data(config, ledger)
    _ceilings(config, ground, ledger)
    quantization = weights.quantization(config, ledger)
    precision = weights.precision(config, ground)
    accumulation = learning.accumulation(config, ledger)
    length = _max_length(config, ground, ledger)
    total = total_steps(config, ground.train_rows, ground.row_tokens, length)
    every = eval_interval(config, total, ledger.changes)
    scheduler, scheduler_kwargs = learning.scheduler(config, ledger)
    return Plan(
        model_path=ground.model_path,
        model_revision=ground.model_revision,
        device=ground.device,
        precision=precision,
        quantization=quantization,
        bnb_4bit_compute_dtype=weights.compute_dtype(config, precision, quantization, ledger),
        max_length=length,
        optim=learning.optim(config, ground, ledger),
        group_by_length=_group_by_length(config, ledger),
        lr_scheduler_type=scheduler,
        lr_scheduler_kwargs=scheduler_kwargs,
        warmup_steps=learning.warmup(config, total),
        eval_steps=every,
        total_steps=total,
        method=method_of(config, ground.kind),
        trains="adapter" if config.adapter.enabled else "all",
        attn_implementation=weights.attention(config, ground, precision, ledger),
        lora_alpha=weights.lora_alpha(config, ledger),
        adapter_dtype=weights.adapter_dtype(config, precision, ledger),
        gradient_accumulation_steps=accumulation,
        save_steps=learning.save_interval(config, every, ledger),
        start_from=ground.start_from,
        torch_compile=_torch_compile(config, ground, ledger),
        num_workers=_num_workers(config, ground),
        loss_piece=LOSS_PIECE.get(ground.device, 256),
        changes=ledger.changes,
    )


def _data(config: TrainingConfig, ledger: ChangeLog) -> None:
    if config.data.sources and config.dataset not in {s.path for s in config.data.sources}:
        reason = "The sources are given, so the one dataset is not read."
        ledger.record("dataset", "data.sources", reason)
    if config.data.validation_sources and config.eval_split > 0:
        reason = "The rows to check on have their own sources, so none are held out."
        ledger.record("eval_split", 0, reason)


def _ceilings(config: TrainingConfig, ground: PlanContext, ledger: ChangeLog) -> None:
    for name in ("max_gpu_temperature", "max_gpu_power"):
        if getattr(config.hardware, name) is not None and ground.device != "cuda":
            reason = f"There is no NVIDIA GPU in use whose ceiling it would be: {ground.device}."
            ledger.record(f"hardware.{name}", None, reason)


def _max_length(config: TrainingConfig, ground: PlanContext, ledger: ChangeLog) -> int:
    limit = ground.context
    if config.max_seq_length is not None and config.max_seq_length > 0:
        if limit is not None and config.max_seq_length > limit:
            reason = f"The model reads at most {limit} tokens."
            return int(ledger.record("max_seq_length", limit, reason))
        return config.max_seq_length
    chosen = PROFILE_LENGTH[config.compute_specs]
    if limit is not None and limit < chosen:
        return int(ledger.record("max_seq_length", limit, "Chosen from what the model can read."))
    return int(
        ledger.record("max_seq_length", chosen, f"Chosen from the profile {config.compute_specs}.")
    )


def _group_by_length(config: TrainingConfig, ledger: ChangeLog) -> bool:
    if config.packing and config.group_by_length:
        reason = "Packing fills every sequence, so there are no lengths to group by."
        return bool(ledger.record("group_by_length", False, reason))
    return config.group_by_length


def _torch_compile(config: TrainingConfig, ground: PlanContext, ledger: ChangeLog) -> bool:
    if not config.trainer.torch_compile:
        return False
    needed = COMPILERS.get(ground.device)
    if needed in ground.packages:
        return True
    reason = f"It needs {needed}, which is not here." if needed else "Apple GPUs have no way yet."
    return bool(ledger.record("trainer.torch_compile", False, reason))


def _num_workers(config: TrainingConfig, ground: PlanContext) -> int:
    if config.data.num_workers is not None:
        return config.data.num_workers
    return 2 if ground.device == "cuda" and (ground.train_rows or 0) >= MANY_ROWS else 0


def releases_memory(config: TrainingConfig, plan: Plan) -> bool:
    """Say whether freed tensors go back to the system at once, which takes time.

    On the CPU, where activations are worked out again or weights are quantized: neither is chosen
    for anything but memory, and without this malloc would keep what they save.
    """
    return plan.device == "cpu" and (config.gradient_checkpointing or plan.quantization != "none")
