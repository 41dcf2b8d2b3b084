"""Train with a settings file in Soup's environment, and record the time of each step.

python soup_run.py SETTINGS.yaml OUT.json
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Train and write {"steps": [{"t", "tokens", "loss"}]}."""
    from soup_cli.cli import app
    from transformers import TrainerCallback, trainer

    logged: list[dict[str, float]] = []

    class Clock(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):  # type: ignore[no-untyped-def]
            if logs and "loss" in logs:
                tokens = int(logs["num_tokens"])
                logged.append({"t": time.time(), "tokens": tokens, "loss": logs["loss"]})

    trainer.DEFAULT_CALLBACKS.append(Clock)
    settings, out = sys.argv[1:3]
    app(["train", "--config", settings, "--yes"], standalone_mode=False)
    Path(out).write_text(json.dumps({"steps": logged}), encoding="utf-8")


if __name__ == "__main__":
    main()
