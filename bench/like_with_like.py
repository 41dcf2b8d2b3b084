"""Estimates in the unit of what is measured on a GPU: reserved memory, without the CUDA context."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelforge.preflight.report import Report


def tensors_gib(report: Report | None) -> float | None:
    """Return the estimated memory without the constant part for CUDA context and libraries.

    The peak of a run on a GPU is the memory that PyTorch reserved, in which they are not.
    """
    from modelforge.preflight.memory.estimate import OVERHEAD_GIB

    if report is None or report.memory_total_gib is None:
        return None
    return round(report.memory_total_gib - OVERHEAD_GIB, 3)
