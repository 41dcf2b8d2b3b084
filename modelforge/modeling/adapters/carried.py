"""What an adapter's shape carries from where it is described to where its model is saved.

Nothing heavy is imported here: the worker speaks before torch is there.
"""

from __future__ import annotations

from typing import Any

_NOTE = "modelforge_start"


def carry(shape: Any, start: Any) -> None:
    """Let the adapter's shape carry how it begins."""
    setattr(shape, _NOTE, start)


def carried(model: Any) -> Any:
    """Return how the model's adapter began, or None where it has none of ours."""
    return getattr(getattr(model, "peft_config", {}).get("default"), _NOTE, None)
