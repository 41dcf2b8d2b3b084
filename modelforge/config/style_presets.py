"""Presets that ship with the program: the default settings of other systems."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from modelforge.config.importers import nanochat, safe_synthesizer, stack_wise, surogate
from modelforge.config.importers.foreign_file import ForeignFile
from modelforge.config.importers.system import System
from modelforge.config.resolve import flatten, nest

# Settings of one run, or of the computer: they are no style of training.
NOT_A_STYLE: Final = frozenset(
    {
        *("task", "provider", "model_name", "dataset", "data.sources", "data.validation_sources"),
        *("data.num_workers", "model.attn_implementation"),
    }
)
GROUPS_NOT_A_STYLE: Final = ("hardware.", "logging.")


@dataclass(frozen=True)
class Style:
    """A shipped preset: the defaults of a system.

    Attributes:
        description: What it stands for, in one or two sentences.
    """

    name: str
    description: str
    system: System

    @property
    def settings(self) -> dict[str, Any]:
        """What an empty file of the system becomes, without settings of one run or computer."""
        recipe = flatten(self.system.read(ForeignFile("the defaults", {})).recipe)
        return nest(
            {
                name: value
                for name, value in recipe.items()
                if name not in NOT_A_STYLE and not name.startswith(GROUPS_NOT_A_STYLE)
            }
        )


STYLES: Final[tuple[Style, ...]] = (
    Style(
        "Surogate-style",
        "LoRA of rank 16 on packed rows, three epochs at a linear rate, as Surogate trains.",
        surogate.SYSTEM,
    ),
    Style(
        "nanochat",
        "A language model of depth 20 from nothing, with Muon and a rate that decays over the last "
        "half, as nanochat trains.",
        nanochat.SYSTEM,
    ),
    Style(
        "Safe-Synthesizer-style",
        "LoRA of rank 32 on the attention layers with a cosine rate and batches of one row, as "
        "NeMo Safe Synthesizer trains.",
        safe_synthesizer.SYSTEM,
    ),
    Style(
        "Stack-Wise",
        "200 steps of four rows with checkpoints at every 100, as Stack-Wise trains. Growing a "
        "model stack by stack is not part of it.",
        stack_wise.SYSTEM,
    ),
)
