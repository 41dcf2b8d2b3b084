"""Does what Surogate documents, without a GPU: reads its YAML, logs steps, writes an adapter.

The way its log is written, the names of its checkpoints, what it saves in them and what it prints
are those of its sources. STAND_IN in the environment makes it fail in one of several ways.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import save_file

PLAY = os.environ.get("STAND_IN", "")
PAUSE_S = 0.02 if PLAY not in ("slow", "deaf") else 0.3
ROWS = ("train", "eval")


class Log:
    """An array with one entry per line, whose end is overwritten with every entry."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"[\n\n]\n")
        self._path, self._is_first = path, True

    def add(self, **entry: object) -> None:
        with self._path.open("r+b") as file:
            file.seek(-3, os.SEEK_END)
            if not self._is_first:
                file.write(b",\n")
            file.write(f"  {json.dumps(entry)}\n]\n".encode())
        self._is_first = False


def write_adapter(folder: Path, config: dict, value: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model = json.loads(Path(config["model"], "config.json").read_text())
    size, rank = model["hidden_size"], config["lora_rank"]
    tensors = {}
    for layer in range(model["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.o_proj"
        tensors[f"{name}.lora_A.weight"] = np.full((rank, size), value, np.float32)
        tensors[f"{name}.lora_B.weight"] = np.full((size, rank), value, np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    about = {
        "base_model_name_or_path": "",
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": config["lora_alpha"],
        "lora_dropout": config["lora_dropout"],
        "fan_in_fan_out": False,
        "bias": "none",
        "use_rslora": False,
        "target_modules": ["o_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(about, indent=2))


def save_checkpoint(config: dict, step: int) -> None:
    folder = Path(config["checkpoint_dir"], f"step_{step:08d}")
    write_adapter(folder, config, step / 100)
    (folder / "checkpoint.json").write_text(json.dumps({"run": {"step": step}}))
    kept = sorted(Path(config["checkpoint_dir"]).glob("step_*"))
    for old in kept[: -config["save_total_limit"]]:
        shutil.rmtree(old)


def train(config: dict, log: Log, first: int) -> None:
    last = config["max_steps"]
    print(f"Starting training loop: steps {first} to {last - 1}", flush=True)
    for step in range(first, last):
        if config.get("validation_datasets") and step % config["eval_steps"] == 0 and step > first:
            log.add(
                log="eval", step=step, epoch=0.5, eval_tokens=64, duration_ms=3, loss=2 - step / 9
            )
        if step % config["save_steps"] == 0 and step > first:
            save_checkpoint(config, step)
        time.sleep(PAUSE_S)
        if PLAY == "memory" and step == 1:
            raise RuntimeError("CUDA out of memory: 2.0 GiB were asked for")
        if PLAY == "crash" and step == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        loss = "nan" if PLAY == "nan" and step == 1 else 3.0 - step / 8
        if step % 2 == 0:
            log.add(log="gpu", step=step, id=0, gpu_util=91, temperature=60, power=100000)
        log.add(
            log="step", time="2026-01-15T10:30:00.1", step=step, epoch=step / last, step_tokens=128,
            duration_ms=20, norm=0.5, loss=loss, lr=config["learning_rate"],
        )  # fmt: skip
        print(f":: step {step:7d} | loss {loss}", flush=True)


def main() -> int:
    command, path = sys.argv[1:]
    config = yaml.safe_load(Path(path).read_text())
    if PLAY == "deaf":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (Path(config["output_dir"]) / "pid").write_text(str(os.getpid()))
    rows = [
        json.loads(line)
        for entry in config["datasets"]
        for line in Path(entry["path"]).read_text().splitlines()
    ]
    print(f"{command}: {len(rows)} rows", flush=True)
    log = Log(Path(config["log_file"]))
    first = 0
    if config["resume_from_checkpoint"]:
        names = [each.name for each in Path(config["checkpoint_dir"]).glob("step_*")]
        first = max((int(name.removeprefix("step_")) for name in names), default=0)
    if PLAY == "again":
        log.add(log="step", step=0, step_tokens=1, duration_ms=1, norm=1, loss=9.0, lr=1, epoch=0)
        time.sleep(0.6)
        log = Log(Path(config["log_file"]))
        time.sleep(0.6)
    train(config, log, first)
    if PLAY == "nothing":
        return 0
    write_adapter(Path(config["output_dir"]), config, 0.5)
    if PLAY == "unreadable":
        Path(config["output_dir"], "adapter_model.safetensors").write_bytes(b"broken")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
