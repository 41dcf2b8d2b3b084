"""The group about evaluation: what is measured on held-out rows, and what follows from it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelforge.config.schema.base import Knob
from modelforge.config.schema.runtime import Group


class Evaluation(Group):
    """What is measured on the held-out rows beside the loss."""

    generated_rows: Annotated[
        int,
        Field(ge=0, le=2000),
        Knob(
            "Answers scored",
            "Held-out rows that are answered and scored at the end; 0 for none.",
            "For ROUGE, exact match and F1, which need answers and not only a loss.",
            unit="rows",
            group="Evaluation",
        ),
    ] = 50
    early_stopping: Annotated[
        bool,
        Knob(
            "Stop early",
            "End the run when checks on held-out rows bring nothing better; the best is kept.",
            group="Evaluation",
        ),
    ] = False
    early_stopping_patience: Annotated[
        int,
        Field(ge=1, le=1000),
        Knob(
            "Patience",
            "Checks in a row without anything better after which a run stops early.",
            unit="checks",
            group="Evaluation",
        ),
    ] = 3
    early_stopping_threshold: Annotated[
        float,
        Field(ge=0),
        Knob(
            "Least gain",
            "By how much a check must be better to count as better.",
            group="Evaluation",
        ),
    ] = 0.0
    loss_guard: Annotated[
        bool,
        Knob(
            "Loss guard",
            "Halve the learning rate for 50 updates when the loss or the gradients leap.",
            "A leap is a loss three standard deviations above the last hundred, or gradients of "
            "ten times their usual size. The third halving and later ones stay; there are five "
            "at most.",
            group="Evaluation",
        ),
    ] = False
    phase_monitor: Annotated[
        bool,
        Knob(
            "Tell phases",
            "Say in plain words when the loss converges, stays, jumps or rises.",
            group="Evaluation",
        ),
    ] = True
    keep_best: Annotated[
        bool,
        Knob(
            "Keep the best",
            "What is kept is the state that did best on the held-out rows, not the last one.",
            group="Saving",
        ),
    ] = True
