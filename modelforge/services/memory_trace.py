"""Footprints: what runs hold by their own code, asked of the spare once and remembered."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import threading
from functools import cache
from pathlib import Path
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.config.resolve import Layer
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.checks.summary import DatasetSummary
from modelforge.errors import ForgeError
from modelforge.models.architecture import ModelInfo
from modelforge.paths import Home
from modelforge.preflight.memory.traced import MemoryTrace, longest_row_tokens, memory_trace_key
from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.process.warm_worker import Spare
from modelforge.services.preflight import Checked, Inquiry

REMEMBERED = 500
ASK_S = 120.0
PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes")
# Goes up when tracing itself counts otherwise than before.
EDITION = "2"


class Footprints:
    """Traces runs before they start, for one home folder. Safe to call from several threads."""

    def __init__(self, home: Home, inquiry: Inquiry, spare: Spare) -> None:
        self._file = home.memory_traces
        self._inquiry, self._spare = inquiry, spare
        self._known: dict[str, MemoryTrace] | None = None
        self._lock = threading.Lock()

    def known(
        self, config: TrainingConfig, plan: Plan, facts: ModelInfo, look: DatasetSummary | None
    ) -> MemoryTrace | None:
        """Return the footprint of a run, where it has been traced."""
        key = _key(config, plan, facts, longest_row_tokens(config, plan, look))
        with self._lock:
            return self._remembered().get(key)

    def ask(self, *layers: Layer) -> Checked:
        """Return the check of these answers with the memory traced, if it was not before.

        Raises as a check does, and BusyError or RunError when no worker can be had.
        """
        checked = self._inquiry.check(*layers)
        checked.require()
        report, facts = checked.report, checked.facts
        if report is None or report.memory_basis != "formula" or facts is None:
            return checked
        config, plan = checked.require()[0].config, checked.require()[1]
        length = longest_row_tokens(config, plan, checked.look)
        probe = {
            "kind": "memory",
            "config": config.explicit_values(),
            "plan": plan.as_dict(),
            "length": length,
        }
        found = self._spare.ask(probe, ASK_S)
        key = _key(config, plan, facts, length)
        self._remember(MemoryTrace.from_dict({"key": key, **found}))
        return self._inquiry.check(*layers)

    def _remembered(self) -> dict[str, MemoryTrace]:
        if self._known is None:
            self._known = {}
            for entry in (find_json(self._file) or {}).get("footprints", []):
                with contextlib.suppress(TypeError):
                    found = MemoryTrace.from_dict(entry)
                    self._known[found.key] = found
        return self._known

    def _remember(self, found: MemoryTrace) -> None:
        with self._lock:
            known = self._remembered()
            known[found.key] = found
            while len(known) > REMEMBERED:
                del known[next(iter(known))]
            with contextlib.suppress(ForgeError):  # it can be traced again
                write_json(self._file, {"footprints": [each.as_dict() for each in known.values()]})


def _key(config: TrainingConfig, plan: Plan, facts: ModelInfo, length: int) -> str:
    return memory_trace_key(config, plan, length, _shape(facts), _versions())


def _shape(facts: ModelInfo) -> str:
    """Return what tells the shape of a model: its config.json, or its commit on the Hub."""
    try:
        text = (Path(facts.path) / "config.json").read_bytes()
    except OSError:
        return f"{facts.path}@{facts.revision}"
    return hashlib.sha256(text).hexdigest()


@cache
def _versions() -> dict[str, Any]:
    found = {"edition": EDITION}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
