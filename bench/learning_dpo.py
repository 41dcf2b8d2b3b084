"""Preference training on the CPU: measure whether the reward margin of evaluation pairs rises.

The starter model learns from 60 pairs of the sample `brief` to answer briefly; 20 pairs are for
evaluation. Prints the figures of docs/performance-learning.md.

    python bench/learning_dpo.py [STEPS] [LOSS]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import ROOT, own_home, trained

DATA = ROOT / "assets" / "samples" / "brief.jsonl"
METRICS = ("rewards/margins", "rewards/accuracies", "rewards/chosen", "rewards/rejected")


def main(steps: int = 30, loss: str = "sigmoid") -> None:
    """Train once and print every evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        events = trained(own_home(Path(folder) / "home"), _settings(steps, loss))
    kinds = ("plan", "step", "eval")
    data = {kind: [e.data for e in events if e.kind == kind] for kind in kinds}
    (plan,) = data["plan"]
    print()
    print(
        f"{loss}: {plan['total_steps']} steps on {plan['train_rows']} pairs, "
        f"{plan['eval_rows']} for evaluation, {events[-1].data['seconds']:.0f} s"
    )
    print("step    eval loss      " + "  ".join(METRICS))
    if plan["method"] != "orpo":
        # The model is its own reference: the margin is 0 before the first step.
        print(f"{0:6}  {'':13}  {0.0:15.3f}")
    for result in data["eval"]:
        values = (f"{result['metrics'].get(name, 0.0):{len(name)}.3f}" for name in METRICS)
        print(f"{result['step']:6}  {result['loss']:13.4f}  " + "  ".join(values))
    print("losses of the first steps: " + " ".join(f"{s['loss']:.6f}" for s in data["step"][:5]))


def _settings(steps: int, loss: str) -> dict[str, Any]:
    """Return the settings of the run."""
    return {
        "task": "text-generation",
        "model_name": "starter",
        "dataset": str(DATA),
        "compute_specs": "low_end",
        "strategy": "dpo",
        "use_4bit": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "learning_rate": 5e-5,
        "max_steps": steps,
        "max_seq_length": 128,
        "eval_split": 0.25,
        "eval_steps": max(1, steps // 3),
        "trainer": {"preference_loss": loss},
    }


if __name__ == "__main__":
    main(*(kind(given) for kind, given in zip((int, str), sys.argv[1:], strict=False)))
