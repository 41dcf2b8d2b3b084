"""Models with random weights, rows, and runs of the app, for the steps of a session."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.shapes import GPU_SHAPES
from modelforge.config.resolve import Layer
from modelforge.errors import BusyError, ForgeError
from modelforge.forge import Forge
from modelforge.paths import Home, find_home

WORK = Path(os.environ.get("MODELFORGE_BENCH_WORK", "."))
# Tiny models on the CPU, to try the steps themselves.
PLAY = os.environ.get("MODELFORGE_BENCH_PLAY") == "1"
DEVICE = "cpu" if PLAY else "cuda"
LONGEST = 4096
WORKER = (sys.executable, "-m", "bench.gpu_steps.worker")
POLL_S = 0.05
# A process may take this long to end after its last event.
FREE_S = 15.0
LETTERS = "abcdefghijklmnopqrstuvwxyz     "


def model(name: str) -> Path:
    """Return the folder of a model of a shape, which is made on the first call.

    It is made in a process of its own, so that a step holds no GPU memory itself.
    """
    folder = WORK / "models" / name
    if not folder.exists():
        command = [sys.executable, "-m", "bench.gpu_steps.runs", name]
        subprocess.run(command, check=True)
    return folder


def make_model(name: str) -> None:
    """Make a model on the device, and a tokenizer in which every character is a token."""
    from bench.shapes import save_random
    from tests.gpu.building import byte_tokenizer

    folder = WORK / "models" / name
    staged = folder.with_name(f".{name}-{os.getpid()}")
    staged.mkdir(parents=True)
    byte_tokenizer(staged, LONGEST)
    shape = GPU_SHAPES[name]
    if PLAY:
        shape = shape | {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128}
        shape |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
        shape |= {"head_dim": 16}
    save_random(staged, shape, DEVICE, pad_token_id=0)
    if not folder.exists():
        staged.rename(folder)


def rows(tokens: int, count: int = 64) -> Path:
    """Return a file of rows with about as many tokens."""
    path = WORK / f"rows-{tokens}-{count}.jsonl"
    if not path.exists():
        draw = random.Random(0)
        texts = ("".join(draw.choices(LETTERS, k=tokens)) for _ in range(count))
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    return path


def settings(name: str, length: int, **changes: Any) -> dict[str, Any]:
    """Return the settings of a short run on a model of a shape."""
    if PLAY:
        length = min(length, 128)
    return {
        "task": "text-generation",
        "model_name": str(model(name)),
        "dataset": str(rows(length + 32)),
        "compute_specs": "low_end",
        "use_4bit": False,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False,
        "optim": "adamw_torch",
        "learning_rate": 1e-4,
        "max_seq_length": length,
        "max_steps": 3,
        "eval_split": 0,
        "hardware.device": DEVICE,
        **changes,
    }


def layer(values: dict[str, Any]) -> Layer:
    """Return settings as a layer."""
    return Layer("bench", values)


def forge(name: str = "", **commands: Any) -> Forge:
    """Return the services of the session's home, or of a home of its own with this name."""
    home = Home(WORK / "homes" / name) if name else find_home()
    home.root.mkdir(parents=True, exist_ok=True)
    return Forge(home, **commands)


def train(
    services: Forge, values: dict[str, Any], while_running: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Train once, and return how it ended; a refusal is a result too."""
    deadline = time.monotonic() + FREE_S
    while True:
        try:
            run = services.runs.start(layer(values))
            return follow(services, run, while_running)
        except BusyError as error:  # the process of the run before is still ending
            if time.monotonic() > deadline:
                return {"ended": "refused", "why": str(error)[:500]}
            time.sleep(POLL_S)
        except ForgeError as error:
            return {"ended": "refused", "why": str(error)[:500]}


def follow(
    services: Forge, run: str, while_running: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Wait for the end of a run, and return its figures."""
    while not services.runs.state(run).is_over:
        if while_running:
            while_running(run)
        time.sleep(POLL_S)
    return figures(services, run)


def figures(services: Forge, run: str) -> dict[str, Any]:
    """Return losses, times and memory of a run by its events; later events of a step count."""
    events = services.runs.events(run)[0]
    steps = {event.data["step"]: event.data for event in events if event.kind == "step"}
    last = events[-1] if events else None
    result = {
        "id": run,
        "ended": last.kind if last else "without events",
        "losses": {step: data.get("loss") for step, data in steps.items()},
        "grad_norms": {step: data.get("grad_norm") for step, data in steps.items()},
        "seconds_per_step": [data.get("seconds") for data in steps.values()],
        "tokens_per_s": [data.get("tokens_per_s") for data in steps.values()],
        "vram_gib": max((data.get("vram_gib") or 0.0 for data in steps.values()), default=0.0),
        "adjusted": [event.data for event in events if event.kind == "adjusted"],
        "notes": [event.data.get("text") for event in events if event.kind == "note"],
    }
    if result["ended"] != "finished":
        result["why"] = last.data if last else ""
        result["log"] = services.runs.log(run)[-2000:]
    return result


def brief(result: dict[str, Any]) -> dict[str, Any]:
    """Return a run without its lists of figures, for a table."""
    lists = ("losses", "grad_norms", "seconds_per_step", "tokens_per_s", "log", "id")
    return {name: value for name, value in result.items() if name not in lists and value}


def largest_difference(first: dict[str, Any], second: dict[str, Any]) -> float | None:
    """Return the largest difference of two runs in the loss of a step, None without losses."""
    one, other = first.get("losses", {}), second.get("losses", {})
    both = [step for step in one if one[step] is not None and other.get(step) is not None]
    return max((abs(one[step] - other[step]) for step in both), default=None)


def used_gib() -> float | None:
    """Return the memory in use on the first visible GPU, by anyone; None without NVML."""
    from modelforge.hardware.machine import probe_machine

    gpus = probe_machine(WORK).gpus
    if not gpus or gpus[0].total_gib is None or gpus[0].free_gib is None:
        return None
    return round(gpus[0].total_gib - gpus[0].free_gib, 3)


if __name__ == "__main__":
    make_model(sys.argv[1])
