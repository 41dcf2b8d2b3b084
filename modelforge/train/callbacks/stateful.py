"""A callback whose state is saved in checkpoints."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerState
from transformers.trainer_callback import ExportableState


class StatefulCallback(TrainerCallback, ExportableState):
    """A callback whose attributes in `saved` are saved in checkpoints and restored.

    Checkpoints name the state after the class, so subclasses must not be renamed.
    """

    saved: tuple[str, ...] = ()

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"args": {}, "attributes": {name: getattr(self, name) for name in self.saved}}

    def on_train_begin(self, _args: Any, state: TrainerState, *_more: Any, **_kwargs: Any) -> None:
        """Restore the state when the run is resumed."""
        # The trainer expects every such callback there, also one that the checkpoint lacks.
        held = state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        if isinstance(held, dict):
            for name, value in held.get("attributes", {}).items():
                if name in self.saved:
                    setattr(self, name, value)
