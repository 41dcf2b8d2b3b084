"""Checks and estimates before a run starts: findings, memory, duration and disk space."""

from modelforge.preflight.context import RunContext
from modelforge.preflight.memory.estimate import MemoryPart
from modelforge.preflight.report import Report, preflight

__all__ = ["MemoryPart", "Report", "RunContext", "preflight"]
