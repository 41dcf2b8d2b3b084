"""Run in LLaMA-Factory's own environment: train as its file says, with a clock beside.

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

    seen: list[dict[str, float]] = []

    class Clock(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):  # type: ignore[no-untyped-def]
            if logs and "loss" in logs:
                tokens = int(state.num_input_tokens_seen)
                seen.append({"t": time.time(), "tokens": tokens, "loss": logs["loss"]})

    settings, out = (Path(word) for word in sys.argv[1:3])
    run_exp(args=yaml.safe_load(settings.read_text("utf-8")), callbacks=[Clock()])
    out.write_text(json.dumps({"steps": seen}), encoding="utf-8")


if __name__ == "__main__":
    main()
