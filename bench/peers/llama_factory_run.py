"""Train with a settings file in LLaMA-Factory's environment, and record the time of each step.

python llama_factory_run.py SETTINGS.yaml OUT.json
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Train and write {"steps": [{"t", "tokens", "loss"}]}."""
    import yaml
    from llamafactory.train.tuner import run_exp
    from transformers import TrainerCallback

    logged: list[dict[str, float]] = []

    class Clock(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):  # type: ignore[no-untyped-def]
            if logs and "loss" in logs:
                tokens = int(state.num_input_tokens_seen)
                logged.append({"t": time.time(), "tokens": tokens, "loss": logs["loss"]})

    settings, out = (Path(word) for word in sys.argv[1:3])
    run_exp(args=yaml.safe_load(settings.read_text("utf-8")), callbacks=[Clock()])
    out.write_text(json.dumps({"steps": logged}), encoding="utf-8")


if __name__ == "__main__":
    main()
