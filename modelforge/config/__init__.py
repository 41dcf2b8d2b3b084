"""What may be asked: the settings, their rules, profiles and recipes."""

from modelforge.config.schema.config import TrainingConfig

__all__ = ["TrainingConfig"]
