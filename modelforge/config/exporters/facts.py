"""The settings of a recipe or a run as an exporter reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from modelforge.config.methods import METHOD_FACTS, Method, MethodFacts, method_of
from modelforge.config.optimizers import StorageFormat
from modelforge.config.plan import training, weights
from modelforge.config.plan.context import ChangeLog, PlanContext
from modelforge.config.plan.run_length import ruling_measure
from modelforge.config.profiles import profile_length
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.data import Source

if TYPE_CHECKING:
    # The plan of a run on another engine reads these tables.
    from modelforge.config.plan.make import Plan


@dataclass(frozen=True)
class Facts:
    """A config, the plan of its run if there is one, and what follows from both.

    Attributes:
        plan: None for a recipe: what it leaves open is then left to the other system.
        files: Paths of sources, as the other system finds them, by our path; others are kept.
        data: A file with the rows of training that is written beside the settings; empty if the
            other system reads the sources themselves.
    """

    config: TrainingConfig
    plan: Plan | None = None
    files: Mapping[str, str] | None = None
    data: str = ""

    @cached_property
    def values(self) -> dict[str, Any]:
        """All settings by dotted name, typed; data sources as a list of `Source`."""
        found: dict[str, Any] = {}
        for name in TrainingConfig.model_fields:
            value = getattr(self.config, name)
            fields = getattr(type(value), "model_fields", None)
            if fields is None:
                found[name] = value
                continue
            found |= {f"{name}.{inner}": getattr(value, inner) for inner in fields}
        return found

    @property
    def method(self) -> Method:
        """The training method."""
        return self.plan.method if self.plan else method_of(self.config)

    @property
    def about_method(self) -> MethodFacts:
        """The facts of the training method."""
        return METHOD_FACTS[self.method]

    @cached_property
    def storage(self) -> StorageFormat:
        """Storage format of the frozen weights."""
        if self.plan is not None:
            return self.plan.quantization
        return weights.quantization(self.config, "cuda", ChangeLog(self.config))

    @property
    def precision(self) -> str:
        """The number format of training; `auto` where nothing decides it."""
        if self.plan is not None:
            return self.plan.precision
        if self.config.bf16 or self.config.fp16:
            return "bf16" if self.config.bf16 else "fp16"
        if {"fp16", "bf16"} & self.config.model_fields_set:
            return "fp32"
        return self.config.hardware.precision

    @property
    def max_length(self) -> int:
        """The tokens of the longest row."""
        if self.plan is not None:
            return self.plan.max_length
        length = self.config.max_seq_length
        return length if length and length > 0 else profile_length(self.config.compute_specs)

    @property
    def target_length(self) -> int | None:
        """The context length that rope scaling reaches; None while it is unknown."""
        return self.plan.max_model_len if self.plan else self.config.model.max_model_len

    @property
    def lora_alpha(self) -> int:
        """The effective LoRA alpha."""
        return weights.effective_alpha(self.config)

    @cached_property
    def schedule(self) -> tuple[str, dict[str, Any]]:
        """The schedule and its arguments by the names of Transformers, without a cooldown."""
        plain = {"schedule.decay_steps": None, "schedule.decay_ratio": None}
        changes = {"learning_rate": self.learning_rate} | (plain if self.cools_down else {})
        config = self.config.with_changes(changes)
        name, values = training.scheduler(config, ChangeLog(config))
        if "num_decay_steps" in values:
            values = {**values, "num_decay_steps": self.decay_steps}
        return name, values

    @cached_property
    def decay_steps(self) -> float:
        """Steps of the decay at the end; a share of the run while its steps are unknown."""
        decay: float = training.scheduler(self.config, ChangeLog(self.config))[1]["num_decay_steps"]
        steps = self.total_steps
        return round(decay * steps) if decay < 1 and steps else decay

    @property
    def cools_down(self) -> bool:
        """Whether a linear or cosine schedule ends with a cooldown, which Transformers lacks."""
        return training.cools_down(self.config)

    @property
    def total_steps(self) -> int | None:
        """Optimizer steps of the run; None while the number of rows is unknown."""
        if self.plan is not None:
            return self.plan.total_steps
        return self.config.max_steps if self.config.max_steps > 0 else None

    @property
    def max_steps(self) -> int:
        """The steps after which training ends; -1 where epochs decide, or nothing is known yet."""
        measure = ruling_measure(self.config)
        if measure in ("max_steps", "num_train_epochs", "trainer.fractional_epochs"):
            return self.config.max_steps
        return self.total_steps or -1

    @property
    def learning_rate(self) -> float:
        """The highest rate of the schedule."""
        if self.plan is not None and self.plan.learning_rate is not None:
            return self.plan.learning_rate
        if not self.config.schedule.auto_learning_rate:
            return self.config.learning_rate
        context = PlanContext("cuda", self.config.model_name)
        return training.auto_learning_rate(self.config, context)[0]

    @property
    def warmup(self) -> float:
        """Steps of the warm-up; below 1 a share of the run."""
        return training.warmup(self.config, self.total_steps)

    @property
    def evaluates(self) -> bool:
        """Whether there are evaluation rows."""
        return self.config.evaluates

    @property
    def save_steps(self) -> int:
        """Steps between two checkpoints; -1 for one at the end alone."""
        interval = self.config.eval_steps if self.evaluates else None
        return training.save_interval(self.config, interval, ChangeLog(self.config))

    @property
    def keeps_best(self) -> bool:
        """Whether the checkpoint with the least evaluation loss is kept."""
        return self.evaluates and self.config.evaluation.keep_best and self.save_steps > 0

    @property
    def sources(self) -> list[Source]:
        """The data sources of training."""
        return self.config.sources()

    def path(self, source: Source) -> str:
        """Return the path of a source for the other system."""
        return (self.files or {}).get(source.path, source.path)

    @property
    def is_quantized(self) -> bool:
        """Whether the frozen weights are stored in 4 or 8 bits by bitsandbytes."""
        return self.storage in ("4-bit", "8-bit")
