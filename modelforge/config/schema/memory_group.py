"""The group about memory: what a run does when there is not enough, and how it fills what is."""

from __future__ import annotations

from typing import Annotated

from modelforge.config.schema.base import Knob
from modelforge.config.schema.runtime import Group


class Memory(Group):
    """How a run lives with the memory there is."""

    autopilot: Annotated[
        bool,
        Knob(
            "Go on when memory runs out",
            "A batch that does not fit is halved and taken in turns; what is learned is the same.",
            "The rows of an update, their order and their weight stay as they were. With one row "
            "left gradient checkpointing is switched on; only then does the run fail.",
            group="Memory",
        ),
    ] = True
    auto_batch_size: Annotated[
        bool,
        Knob(
            "Find the batch size",
            "Try at the start which batch size is the fastest that fits; updates stay as large.",
            "Batch size times accumulation stays as it was said. A larger batch is taken only "
            "while it is at least 5 % faster.",
            group="Memory",
        ),
    ] = False
