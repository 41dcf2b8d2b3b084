"""The effective plan: what a config comes to on this machine, with a reason for every change.

A config is never altered. The worker reads the plan; the run keeps both.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from modelforge.config.method import Method, method_of
from modelforge.config.schema import TrainingConfig

Device = Literal["cuda", "mps", "cpu"]
PROFILE_LENGTH = {"low_end": 512, "mid_range": 2048, "high_end": 4096}


@dataclass(frozen=True)
class Change:
    """One setting that is used otherwise than it stands, and why."""

    where: str
    said: Any
    used: Any
    reason: str


@dataclass(frozen=True)
class Ground:
    """The few facts a plan depends on. `context` is in tokens; None means unknown.

    `kind` is the model's: decoder, encoder-decoder, encoder or unknown.
    """

    device: Device
    model_path: str
    model_revision: str | None = None
    compute_capability: tuple[int, int] | None = None
    context: int | None = None
    train_rows: int | None = None
    kind: str = "decoder"


@dataclass(frozen=True)
class Plan:
    """What is really run. Names are TRL's and PEFT's.

    `method` is the trainer that does the work; `trains` says what learns.
    """

    model_path: str
    model_revision: str | None
    device: Device
    precision: Literal["fp32", "fp16", "bf16"]
    quantization: Literal["none", "4-bit", "8-bit"]
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
    changes: list[Change] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Plan:
        """Read back what `as_dict` gave, in this release or another: runs open for ever."""
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        return cls(**{**known, "changes": [Change(**change) for change in data["changes"]]})


def make_plan(config: TrainingConfig, ground: Ground) -> Plan:
    """Return what `config` comes to on `ground`. Pure; never fails for a valid config."""
    ledger = _Ledger(config)
    _data(config, ledger)
    quantization = _quantization(config, ledger)
    precision = _precision(config, ground)
    total = total_steps(config, ground.train_rows)
    return Plan(
        model_path=ground.model_path,
        model_revision=ground.model_revision,
        device=ground.device,
        precision=precision,
        quantization=quantization,
        bnb_4bit_compute_dtype=_compute_dtype(config, precision, quantization, ledger),
        max_length=_max_length(config, ground, ledger),
        optim=_optim(config, ground, ledger),
        group_by_length=_group_by_length(config, ledger),
        lr_scheduler_type=_scheduler(config, ledger),
        lr_scheduler_kwargs=_scheduler_kwargs(config),
        warmup_steps=_warmup(config, total),
        eval_steps=eval_every(config, total, ledger.changes),
        total_steps=total,
        method=method_of(config, ground.kind),
        trains="adapter" if config.adapter.enabled else "all",
        changes=ledger.changes,
    )


def total_steps(config: TrainingConfig, train_rows: int | None) -> int | None:
    """Return the number of updates, or None while the number of rows is unknown.

    As the Transformers Trainer counts: a last short batch of an epoch is an update too.
    """
    if config.max_steps > 0:
        return config.max_steps
    if train_rows is None:
        return None
    batches = -(-train_rows // config.per_device_train_batch_size)
    return max(1, -(-batches // config.gradient_accumulation_steps)) * config.num_train_epochs


def eval_every(
    config: TrainingConfig, total: int | None, changes: list[Change] | None = None
) -> int | None:
    """Return the updates between evaluations, never more than the run has; None = no evaluation."""
    if config.eval_split == 0 and not config.data.validation_sources:
        return None
    if total is None or config.eval_steps <= total:
        return config.eval_steps
    if changes is not None:
        changes.append(
            Change(
                "eval_steps",
                config.eval_steps,
                total,
                f"The run has only {total} updates, so that check would never come.",
            )
        )
    return total


class _Ledger:
    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.changes: list[Change] = []

    def change(self, where: str, used: Any, reason: str) -> Any:
        self.changes.append(Change(where, getattr(self.config, where), used, reason))
        return used


def _data(config: TrainingConfig, ledger: _Ledger) -> None:
    if config.data.sources and config.dataset not in {s.path for s in config.data.sources}:
        reason = "The sources are given, so the one dataset is not read."
        ledger.change("dataset", "data.sources", reason)
    if config.data.validation_sources and config.eval_split > 0:
        reason = "The rows to check on have their own sources, so none are held out."
        ledger.change("eval_split", 0, reason)


def _quantization(config: TrainingConfig, ledger: _Ledger) -> Literal["none", "4-bit", "8-bit"]:
    if config.use_8bit:
        if config.use_4bit:
            ledger.change("use_4bit", False, "Only 8-bit was asked for.")
        return "8-bit"
    return "4-bit" if config.use_4bit else "none"


def _precision(config: TrainingConfig, ground: Ground) -> Literal["fp32", "fp16", "bf16"]:
    if config.bf16:
        return "bf16"
    if config.fp16:
        return "fp16"
    wanted = config.hardware.precision
    if wanted != "auto":
        return wanted
    if {"fp16", "bf16"} & config.model_fields_set:
        return "fp32"
    if ground.device != "cuda":
        return "fp32"
    return "bf16" if (ground.compute_capability or (0, 0)) >= (8, 0) else "fp16"


def _compute_dtype(
    config: TrainingConfig, precision: str, quantization: str, ledger: _Ledger
) -> str:
    said = config.bnb_4bit_compute_dtype
    if quantization != "4-bit" or "bnb_4bit_compute_dtype" in config.model_fields_set:
        return said
    follow = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}[precision]
    if follow != said:
        ledger.change(
            "bnb_4bit_compute_dtype", follow, f"Follows the training precision {precision}."
        )
    return follow


def _max_length(config: TrainingConfig, ground: Ground, ledger: _Ledger) -> int:
    limit = ground.context
    if config.max_seq_length is not None and config.max_seq_length > 0:
        if limit is not None and config.max_seq_length > limit:
            reason = f"The model reads at most {limit} tokens."
            return int(ledger.change("max_seq_length", limit, reason))
        return config.max_seq_length
    chosen = PROFILE_LENGTH[config.compute_specs]
    if limit is not None and limit < chosen:
        return int(ledger.change("max_seq_length", limit, "Chosen from what the model can read."))
    return int(
        ledger.change("max_seq_length", chosen, f"Chosen from the profile {config.compute_specs}.")
    )


def _optim(config: TrainingConfig, ground: Ground, ledger: _Ledger) -> str:
    if config.optim == "paged_adamw_32bit" and ground.device != "cuda":
        reason = "Paging needs a CUDA card; the same optimizer without it."
        return str(ledger.change("optim", "adamw_torch", reason))
    if config.optim == "adamw_8bit" and ground.device == "mps":
        return str(
            ledger.change("optim", "adamw_torch", "8-bit optimizer states need CUDA or a CPU.")
        )
    return config.optim


def _group_by_length(config: TrainingConfig, ledger: _Ledger) -> bool:
    if config.packing and config.group_by_length:
        reason = "Packing fills every sequence, so there are no lengths to group by."
        return bool(ledger.change("group_by_length", False, reason))
    return config.group_by_length


def _scheduler(config: TrainingConfig, ledger: _Ledger) -> str:
    if config.lr_scheduler_type == "constant" and config.warmup_ratio > 0:
        reason = "Plain constant ignores the warm-up."
        return str(ledger.change("lr_scheduler_type", "constant_with_warmup", reason))
    return config.lr_scheduler_type


def _scheduler_kwargs(config: TrainingConfig) -> dict[str, Any]:
    # The polynomial schedule refuses rates at or below its own end value of 1e-7.
    if config.lr_scheduler_type == "polynomial":
        return {"lr_end": min(1e-7, config.learning_rate / 10)}
    return {}


def _warmup(config: TrainingConfig, total: int | None) -> float:
    # Transformers reads a share below 1 as a ratio, and 1.0 as one step.
    if config.warmup_ratio < 1:
        return config.warmup_ratio
    return float(total) if total is not None else 0.999999
