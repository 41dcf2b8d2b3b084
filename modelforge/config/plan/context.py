"""What a plan stands on: the facts of machine and model, and the ledger of what it changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from modelforge.config.schema.config import TrainingConfig

Device = Literal["cuda", "mps", "cpu"]


@dataclass(frozen=True)
class Change:
    """One setting that is used otherwise than it stands, and why."""

    where: str
    configured: Any
    used: Any
    reason: str


@dataclass(frozen=True)
class PlanContext:
    """The few facts a plan depends on. `context` is in tokens; None means unknown.

    `kind` is the model's: decoder, encoder-decoder, encoder or unknown. `packages` are those of
    the optional ones that are installed; `start_from` is the folder of the adapter to begin with.
    `row_tokens` is about how long a row is.
    """

    device: Device
    model_path: str
    model_revision: str | None = None
    compute_capability: tuple[int, int] | None = None
    context: int | None = None
    train_rows: int | None = None
    kind: str = "decoder"
    packages: frozenset[str] = frozenset()
    start_from: str | None = None
    row_tokens: float | None = None


class ChangeLog:
    """Writes down every setting that is used otherwise than it stands."""

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.changes: list[Change] = []

    def record(self, where: str, used: Any, reason: str) -> Any:
        """Note that `used` takes the place of what the setting says, and return it."""
        group, _, name = where.rpartition(".")
        holder = getattr(self.config, group) if group else self.config
        self.changes.append(Change(where, getattr(holder, name), used, reason))
        return used
