"""Trace the memory of a run with the training code, in the warm worker, before it starts."""

from __future__ import annotations

from modelforge.config.resolve import Layer
from modelforge.preflight.memory.traced import MemoryTrace, longest_row_tokens
from modelforge.runs.process.warm_worker import WarmWorker
from modelforge.services.measurements import MemoryTraceStore
from modelforge.services.preflight import PreflightResult, PreflightService

TRACE_TIMEOUT_S = 120.0


class MemoryTraceService:
    """Trace the memory of runs and store the traces. Thread-safe."""

    def __init__(
        self, preflight: PreflightService, traces: MemoryTraceStore, warm_worker: WarmWorker
    ) -> None:
        self._preflight = preflight
        self._traces = traces
        self._warm_worker = warm_worker

    def trace(self, *layers: Layer) -> PreflightResult:
        """Return the check of these settings with traced memory; known traces are used again.

        Raises what a check raises, and BusyError or RunError when no worker is available.
        """
        checked = self._preflight.check(*layers)
        resolved, plan, report, _data = checked.require()
        if report.memory_basis != "formula" or checked.facts is None:
            return checked
        length = longest_row_tokens(resolved.config, plan, checked.summary)
        probe = {
            "kind": "memory",
            "config": resolved.config.explicit_values(),
            "plan": plan.as_dict(),
            "length": length,
        }
        trace = self._warm_worker.ask(probe, TRACE_TIMEOUT_S)
        key = self._traces.key(resolved.config, plan, checked.facts, length)
        self._traces.add(MemoryTrace.from_dict({"key": key, **trace}))
        return self._preflight.check(*layers)
