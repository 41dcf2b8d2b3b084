"""What a rehearsal has measured, and what that says of a whole run of the same settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.models.architecture import ModelInfo

if TYPE_CHECKING:
    from modelforge.data.checks.summary import DatasetSummary
    from modelforge.hardware.machine import Machine

# What bears neither on memory nor on the time of an update.
_NO_MATTER = frozenset(
    {"num_train_epochs", "max_steps", "learning_rate", "weight_decay", "max_grad_norm"}
    | {"lr_scheduler_type", "warmup_ratio", "eval_steps", "compute_specs"}
    | {"logging", "schedule", "progressive"}
)
_NO_MATTER_IN = {
    "trainer": frozenset(
        {"seed", "save_steps", "save_total_limit", "preference_beta", "kl_beta", "reward_epochs"}
        | {"reward_learning_rate", "generation_temperature"}
    ),
    "evaluation": frozenset({"keep_best"}),
    "optimizer": frozenset({"beta1", "beta2", "epsilon"}),
}
_OF_PLAN = (
    *("model_path", "model_revision", "device", "precision", "quantization", "max_length", "optim"),
    *("bnb_4bit_compute_dtype", "group_by_length", "method", "trains", "attn_implementation"),
    *("adapter_dtype", "gradient_accumulation_steps", "loss_piece", "torch_compile"),
)


@dataclass(frozen=True)
class TrialRunResult:
    """What was measured in a rehearsal. Memory in GiB, times in seconds; None was not measured.

    `id` names its folder and `at` is when it was made. `seconds_per_update_worst` is that of the
    longest rows; `prepare_seconds` are all before the first update but the loading of the model,
    `score_seconds` those in which held-out rows are answered at the end.
    `stages` counts the trainings of a run, of which the figures are the last one's, and
    `earlier_seconds` is how long those before it take.
    """

    id: str
    at: float
    peak_gib: float
    seconds_per_update: float
    seconds_per_update_worst: float | None = None
    tokens_per_s: float | None = None
    seconds_per_eval_batch: float | None = None
    save_seconds: float | None = None
    final_seconds: float | None = None
    checkpoint_gib: float | None = None
    load_seconds: float = 0.0
    prepare_seconds: float = 0.0
    updates: int = 0
    micro_batch: int | None = None
    accumulation: int | None = None
    stages: int = 1
    earlier_seconds: float = 0.0
    score_seconds: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrialRunResult:
        """Read what `as_dict` gave, or the data of a `rehearsed` event with `id` and `at`.

        Raises TypeError for what is none.
        """
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})

    def seconds(self, config: TrainingConfig, plan: Plan, eval_rows: int) -> float | None:
        """Return how long a run takes, from click to end; None when its updates are unknown."""
        total = plan.total_steps
        if total is None:
            return None
        seconds = self.earlier_seconds + self.load_seconds + self.prepare_seconds
        seconds += total * self.seconds_per_update
        if plan.eval_steps and self.seconds_per_eval_batch:
            batches = -(-eval_rows // config.per_device_eval_batch_size)
            seconds += total // plan.eval_steps * batches * self.seconds_per_eval_batch
        every = plan.save_steps
        saves = 1 if every <= 0 else total // every + (total % every > 0)
        final = (self.final_seconds or self.save_seconds or 0.0) + (self.score_seconds or 0.0)
        return seconds + saves * (self.save_seconds or 0.0) + final


def trial_run_key(
    config: TrainingConfig,
    plan: Plan,
    facts: ModelInfo,
    look: DatasetSummary,
    machine: Machine,
    versions: Mapping[str, str | None],
) -> str:
    """Return a name for all that bears on memory and on the time of an update.

    `versions` are those of the packages that do the work.
    """
    said = {
        name: value
        for name, value in config.model_dump(mode="json").items()
        if name not in _NO_MATTER
    }
    for group, names in _NO_MATTER_IN.items():
        if isinstance(said.get(group), dict):
            said[group] = {k: v for k, v in said[group].items() if k not in names}
    planned = {name: getattr(plan, name) for name in _OF_PLAN}
    # Rates and rows to check on change neither; that there is a check at all does.
    planned["checks"] = plan.eval_steps is not None
    gpu = next((g for g in machine.gpus if g.index == config.hardware.gpu_index), None)
    place = gpu.name if plan.device == "cuda" and gpu else f"{machine.cpu} {machine.cores}"
    ground = {
        "config": said,
        "plan": planned,
        "model": [facts.name, facts.path, facts.revision, facts.parameters],
        "data": [look.sha256, look.rows, look.mean_chars, look.longest_chars],
        "machine": [machine.system, place, machine.ram_total_gib],
        "packages": dict(versions),
    }
    text = json.dumps(ground, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
