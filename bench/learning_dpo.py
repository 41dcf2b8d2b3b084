"""Learning from pairs on the CPU: does the held-out reward margin rise, with our worker?

The starter model learns from 60 pairs of the sample `brief` to answer in a few words and not to
ramble; 20 pairs are held out. Prints the figures of docs/performance-learning.md.

    python bench/learning_dpo.py [UPDATES] [LOSS]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import ROOT, own_home, trained

DATA = ROOT / "assets" / "samples" / "brief.jsonl"
WATCHED = ("rewards/margins", "rewards/accuracies", "rewards/chosen", "rewards/rejected")


def main(updates: int = 30, loss: str = "sigmoid") -> None:
    """Train once and print the check on held-out pairs over time."""
    with tempfile.TemporaryDirectory() as folder:
        events = trained(own_home(Path(folder) / "home"), _answers(updates, loss))
    told = {kind: [e.data for e in events if e.kind == kind] for kind in ("plan", "step", "eval")}
    (plan,) = told["plan"]
    print()
    print(
        f"{loss}: {plan['total_steps']} updates on {plan['train_rows']} pairs, "
        f"{plan['eval_rows']} held out, {events[-1].data['seconds']:.0f} s"
    )
    print("update  held-out loss  " + "  ".join(WATCHED))
    if plan["method"] != "orpo":
        # The model is its own reference: before the first update both say the same.
        print(f"{0:6}  {'':13}  {0.0:15.3f}")
    for check in told["eval"]:
        values = (f"{check['metrics'].get(name, 0.0):{len(name)}.3f}" for name in WATCHED)
        print(f"{check['step']:6}  {check['loss']:13.4f}  " + "  ".join(values))
    print("losses of the first updates: " + " ".join(f"{s['loss']:.6f}" for s in told["step"][:5]))


def _answers(updates: int, loss: str) -> dict[str, Any]:
    """Return what is asked for."""
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
        "max_steps": updates,
        "max_seq_length": 128,
        "eval_split": 0.25,
        "eval_steps": max(1, updates // 3),
        "trainer": {"preference_loss": loss},
    }


if __name__ == "__main__":
    main(*(kind(given) for kind, given in zip((int, str), sys.argv[1:], strict=False)))
