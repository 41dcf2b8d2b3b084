"""Inputs of a plan, and the log of the settings that it changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from modelforge.config.progressive.cost import LayerSizes
from modelforge.config.schema.config import TrainingConfig

Device = Literal["cuda", "mps", "cpu"]
T = TypeVar("T")


@dataclass(frozen=True)
class Change:
    """A setting whose effective value differs from the configured one, with the reason.

    JSON and stored plans call the configured value `said`.
    """

    where: str
    configured: Annotated[Any, Field(alias="said")]
    used: Any
    reason: str


@dataclass(frozen=True)
class ModelFlops:
    """Floating point operations of training, recomputed activations not counted.

    Attributes:
        weights: Of a token, by the matrices of the model.
        attention: Of a token, for each token of its row.
    """

    weights: float
    attention: float

    def per_token(self, row: float) -> float:
        """Return the operations of a token in a row of this many tokens."""
        return self.weights + self.attention * row


@dataclass(frozen=True)
class PlanContext:
    """The facts of machine, model and data that a plan depends on; None is unknown.

    Attributes:
        context: Context length of the model in tokens.
        train_rows: Rows of the training split.
        kind: Kind of the model: decoder, encoder-decoder, encoder or unknown.
        packages: Installed optional packages.
        start_from: Folder of the adapter that training starts from.
        resume_from: Folder of the checkpoint of another run that this one resumes from.
        row_tokens: Mean length of a row in tokens.
        profile_length: Length of rows of the profile in tokens; None for that of a shipped one.
        longest_row: Length of the longest row in tokens, estimated.
        model_type: The family of the model as Transformers names it, such as mistral.
        model_flops: Operations of training; None where the shape of the model is unknown.
        tokenizer_path: Folder of a tokenizer of another model.
        vocab_size: Tokens of the tokenizer that a training from nothing borrows.
        layers: Layers of the model.
        layer_sizes: Sizes of its layers, whose `scores` are those of one token that is attended to.
        native_linux: Whether the driver is that of Linux itself, not of Windows or WSL.
        gpus: NVIDIA GPUs from the configured one on.
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
    resume_from: str | None = None
    row_tokens: float | None = None
    native_linux: bool = True
    profile_length: int | None = None
    longest_row: int | None = None
    model_type: str = ""
    model_flops: ModelFlops | None = None
    tokenizer_path: str | None = None
    vocab_size: int | None = None
    layers: int | None = None
    layer_sizes: LayerSizes | None = None
    gpus: int = 1


def is_native_linux(system: str, release: str = "") -> bool:
    """Return whether this is Linux outside WSL, by the names of the system and its release."""
    return system.startswith("Linux") and not any(
        name in f"{system} {release}".lower() for name in ("microsoft", "wsl")
    )


class ChangeLog:
    """Collects the settings whose effective value differs from the configured one."""

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.changes: list[Change] = []

    def record(self, where: str, used: T, reason: str) -> T:
        """Record that `used` replaces the configured value of a setting, and return it."""
        group, _, name = where.rpartition(".")
        holder = getattr(self.config, group) if group else self.config
        self.changes.append(Change(where, getattr(holder, name), used, reason))
        return used
