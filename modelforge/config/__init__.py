"""Settings of a training run: schema, rules, plan, profiles and recipes."""

from modelforge.config.schema.config import TrainingConfig

__all__ = ["TrainingConfig"]
