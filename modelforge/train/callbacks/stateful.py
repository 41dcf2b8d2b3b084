"""A callback whose state lies in checkpoints, and comes back when a run goes on from one."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerState
from transformers.trainer_callback import ExportableState


class StatefulCallback(TrainerCallback, ExportableState):
    """A callback whose attributes in `kept` lie in checkpoints and come back with them."""

    kept: tuple[str, ...] = ()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"args": {}, "attributes": {name: getattr(self, name) for name in self.kept}}

    def on_train_begin(self, _args: Any, state: TrainerState, *_more: Any, **_rest: Any) -> None:
        """Go on from what the checkpoint has kept, if the run goes on from one."""
        name = type(self).__name__
        # The trainer expects every such callback there, also one that the checkpoint has not.
        held = state.stateful_callbacks.setdefault(name, self.state())
        if isinstance(held, dict):
            for each, value in held.get("attributes", {}).items():
                if each in self.kept:
                    setattr(self, each, value)
