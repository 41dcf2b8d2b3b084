"""Exports as the service shows them."""

from __future__ import annotations

from typing import Any

from modelforge.runs.exports import ExportFile
from modelforge.runs.jobs import JobState
from modelforge.services.exports import ExportView, Prediction

PASSED = {"passed": True, "prompts": 20, "same_text": 19, "kl": 0.0123, "details": []}


def export(state: str = "finished", **more: Any) -> ExportView:
    """Return the view of a GGUF file of a run."""
    usual: dict[str, Any] = {
        "id": "20261128-1",
        "state": JobState(state),
        "run": "20261128-2",
        "run_name": "captain",
        "format": "gguf",
        "quantization": "q4_k_m",
        "precision": "base",
        "name": "captain-Q4_K_M.gguf",
        "bytes": 2**20,
        "created": 1.0,
        "ended": None,
        "path": None,
        "files": (),
        "steps": (),
        "seconds_left": None,
        "queued_behind": "",
        "prediction": Prediction("x", "cpu", 2**20, 2**21, 2**22, 60.0, 2**40),
        "self_test": None,
        "problem": None,
        "address": "",
    }
    if state == "finished":
        file = ExportFile("captain-Q4_K_M.gguf", 2**20)
        usual |= {"path": "/exports/a b/files", "files": (file,), "self_test": PASSED}
    return ExportView(**{**usual, **more})
