"""May it be done here: findings, memory, time and disk, before the start."""

from modelforge.preflight.memory.estimate import MemoryPart
from modelforge.preflight.report import Report, preflight

__all__ = ["MemoryPart", "Report", "preflight"]
