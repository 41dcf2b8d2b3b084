"""Learning from pairs on the CPU: does the held-out reward margin rise, with our worker?

The starter model learns from 60 pairs of the sample `brief` to answer in a few words and not to
ramble; 20 pairs are held out. Prints the figures of docs/performance-learning.md.

    python bench/learning_dpo.py [UPDATES] [LOSS]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import ROOT, starter_home

from modelforge.config.plan import Ground, make_plan
from modelforge.config.schema import TrainingConfig
from modelforge.data.look import look
from modelforge.runs.events import read_events
from modelforge.runs.layout import RunFolder, write_json

DATA = ROOT / "assets" / "samples" / "brief.jsonl"
WATCHED = ("rewards/margins", "rewards/accuracies", "rewards/chosen", "rewards/rejected")


def main(updates: int = 30, loss: str = "sigmoid") -> None:
    """Train once and print the check on held-out pairs over time."""
    with tempfile.TemporaryDirectory() as folder:
        run = _prepare(Path(folder), updates, loss)
        began = time.monotonic()
        command = [sys.executable, "-m", "modelforge.train", str(run.path)]
        subprocess.run(command, cwd=ROOT, check=True)
        seconds = time.monotonic() - began
        events, _ = read_events(run.events)
    told = {kind: [e.data for e in events if e.kind == kind] for kind in ("plan", "step", "eval")}
    (plan,) = told["plan"]
    print()
    print(
        f"{loss}: {plan['total_steps']} updates on {plan['train_rows']} pairs, "
        f"{plan['eval_rows']} held out, {seconds:.0f} s"
    )
    print("update  held-out loss  " + "  ".join(WATCHED))
    if plan["method"] != "orpo":
        # The model is its own reference: before the first update both say the same.
        print(f"{0:6}  {'':13}  {0.0:15.3f}")
    for check in told["eval"]:
        values = (f"{check['metrics'].get(name, 0.0):{len(name)}.3f}" for name in WATCHED)
        print(f"{check['step']:6}  {check['loss']:13.4f}  " + "  ".join(values))
    print("losses of the first updates: " + " ".join(f"{s['loss']:.6f}" for s in told["step"][:5]))


def _prepare(folder: Path, updates: int, loss: str) -> RunFolder:
    """Return the folder of a run, as the store makes it."""
    said: dict[str, Any] = {
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
    config = TrainingConfig(**said)
    model = starter_home() / "models" / "starter"
    plan = make_plan(config, Ground("cpu", str(model), context=8192))
    first = look(DATA)
    run = RunFolder(folder / "20260101-000000-0000")
    run.path.mkdir()
    dataset = {
        "path": str(DATA),
        "sha256": first.sha256,
        "rows": first.rows,
        "mapping": first.mapping.as_dict(),
    }
    record = {"format": 1, "id": run.id, "name": "learning from pairs", "created": 0}
    plain = {"config": config.said(), "origins": {}, "plan": plan.as_dict(), "dataset": dataset}
    write_json(run.config, record | plain)
    return run


if __name__ == "__main__":
    main(*(kind(given) for kind, given in zip((int, str), sys.argv[1:], strict=False)))
