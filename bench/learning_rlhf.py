"""Training with rewards on the CPU: measure whether the mean reward rises.

The starter model answers short questions. The reward is a rule: 1 for answers of eight words, half
of that at four or sixteen. The prompts ask for short answers, so that most end by themselves: where
answers are truncated, the model learns to use fewer, longer words.
Prints the figures of docs/performance-learning.md.

    python bench/learning_rlhf.py [STEPS] [ALGORITHM]
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import own_home, trained

WORDS = 8
THINGS = (
    "the sea", "snow", "a horse", "the moon", "bread", "a river", "a violin", "summer", "a whale",
    "gold", "a letter", "a garden", "thunder", "a clock", "coffee", "a bridge", "honey", "a lion",
    "a lamp", "rain", "a castle", "silk", "a mirror", "an island", "glass", "a wolf", "a candle",
    "the desert", "music", "a forest",
)  # fmt: skip


def main(steps: int = 40, algorithm: str = "rloo") -> None:
    """Train once and print the metrics."""
    with tempfile.TemporaryDirectory() as folder:
        settings = _settings(Path(folder), steps, algorithm)
        events = trained(own_home(Path(folder) / "home"), settings)
    data = {kind: [e.data for e in events if e.kind == kind] for kind in ("step", "sample")}
    metrics = [step["metrics"] for step in data["step"]]
    samples = data["sample"]
    scores = next(e.data for e in events if e.kind == "scores")
    print()
    print(f"{algorithm}, {len(metrics)} steps in {events[-1].data['seconds']:.0f} s")
    for name in ("reward", "kl", "completions/mean_length"):
        values = [each[name] for each in metrics]
        print(f"{name}: first ten {_mean(values[:10])}, last ten {_mean(values[-10:])}")
    print(f"evaluation ({scores['rows']} questions): {scores['before']} -> {scores['after']}")
    for sample in (*samples[:2], *samples[-2:]):
        print(json.dumps({key: sample[key] for key in ("step", "prompt", "completion", "reward")}))


def _mean(values: list[float]) -> str:
    return f"{statistics.fmean(values):.3f}"


def _settings(folder: Path, steps: int, algorithm: str) -> dict[str, Any]:
    """Return the settings of the run."""
    path = folder / "questions.jsonl"
    rows = [
        {"input": f"What is {thing}? Answer in one short sentence.", "output": "-"}
        for thing in THINGS
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {
        "task": "text-generation",
        "model_name": "starter",
        "dataset": str(path),
        "compute_specs": "low_end",
        "strategy": "rlhf",
        "use_4bit": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 16,
        "gradient_accumulation_steps": 1,
        "learning_rate": 3e-4,
        "lr_scheduler_type": "constant",
        "warmup_ratio": 0,
        "max_grad_norm": 1.0,
        "max_steps": steps,
        "eval_split": 0.2,
        "eval_steps": steps,
        "trainer": {
            "reward": "length",
            "reward_words": WORDS,
            "rlhf_algorithm": algorithm,
            "num_generations": 4,
            "max_completion_length": 32,
            "kl_beta": 0.02,
        },
    }


if __name__ == "__main__":
    main(*(kind(given) for kind, given in zip((int, str), sys.argv[1:], strict=False)))
