"""All settings: the flat fields of the public contract and the nested groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import ModelWrapValidatorHandler, ValidationInfo, model_validator

from modelforge.config.schema.contract import Contract
from modelforge.config.schema.data import Data, Source
from modelforge.config.schema.memory import Memory
from modelforge.config.schema.model import Model
from modelforge.config.schema.optimizer import Optimizer, Schedule
from modelforge.config.schema.pretraining import Pretraining, with_defaults
from modelforge.config.schema.privacy import Privacy
from modelforge.config.schema.progressive import Progressive
from modelforge.config.schema.runtime import Hardware, Logging
from modelforge.config.schema.training import Evaluation, Trainer
from modelforge.config.schema.weights import Adapter, Quantization
from modelforge.errors import ConfigError

# Validation context of values that `resolve` checks itself, or has checked when they were stored.
FIELDS_ONLY = {"fields_only": True}


class TrainingConfig(Contract):
    """The settings of a training run: the 33 fields of the contract, and the groups.

    Raises pydantic's ValidationError with the problems that `resolve` reports: values, names and
    rules between settings.
    """

    model: Model = Model()
    quantization: Quantization = Quantization()
    adapter: Adapter = Adapter()
    data: Data = Data()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    trainer: Trainer = Trainer()
    evaluation: Evaluation = Evaluation()
    memory: Memory = Memory()
    hardware: Hardware = Hardware()
    logging: Logging = Logging()
    privacy: Privacy = Privacy()
    pretraining: Pretraining = Pretraining()
    progressive: Progressive = Progressive()

    @model_validator(mode="wrap")
    @classmethod
    def _check_everything(
        cls, values: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        if isinstance(values, Mapping) and info.context != FIELDS_ONLY:
            # `resolve` is built on this class.
            from modelforge.config.resolve import Layer, resolve  # noqa: PLC0415

            try:
                resolve(Layer("call", values))
            except ConfigError as error:
                raise ValueError(str(error)) from error
        return handler(with_defaults(values) if isinstance(values, Mapping) else values)

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> Self:
        """Return the config of a stored run, whose rules were checked when it was created."""
        return cls.model_validate(values, context=FIELDS_ONLY)

    def sources(self) -> list[Source]:
        """Return the data sources: `data.sources`, else the single dataset."""
        return list(self.data.sources) or [Source(path=self.dataset)]

    @property
    def evaluates(self) -> bool:
        """Whether rows are split off for evaluation or have sources of their own."""
        return self.eval_split > 0 or bool(self.data.validation_sources)

    @property
    def rows_per_pass(self) -> int:
        """The rows of one forward pass: one with differential privacy, else a micro-batch."""
        return 1 if self.privacy.enabled else self.per_device_train_batch_size

    def with_changes(self, settings: Mapping[str, Any]) -> TrainingConfig:
        """Return the config with some settings set, by dotted names. Values are not validated."""
        update: dict[str, Any] = {}
        for name, value in settings.items():
            group, _, field = name.rpartition(".")
            if group:
                holder = update.get(group, getattr(self, group))
                update[group] = holder.model_copy(update={field: value})
            else:
                update[name] = value
        return self.model_copy(update=update)

    def explicit_values(self) -> dict[str, Any]:
        """Return the values that were set explicitly, nested, ready for JSON."""
        return self.model_dump(mode="json", exclude_unset=True)
