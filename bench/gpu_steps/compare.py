"""Train a model of one shape with the app, bare TRL and Unsloth: compare SHAPE RECORD."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.gpu_steps.record import Record
from bench.gpu_steps.runs import DEVICE, WORK, forge, settings, train

STEPS, FIRST = 10, 3
BATCH, LENGTH = 2, 1024
# The 8B shape fits on most GPUs in 4 bits alone.
IN_4_BIT = ("8B",)


def main() -> None:
    """Record one row per program, as soon as it is measured."""
    shape, path = sys.argv[1:]
    record = Record(Path(path))
    values = settings(
        shape,
        LENGTH,
        per_device_train_batch_size=BATCH,
        max_steps=STEPS,
        use_4bit=shape in IN_4_BIT and DEVICE == "cuda",
        gradient_checkpointing=True,
        lora_dropout=0.0,
    )
    rows: list[dict[str, Any]] = []
    for name, measure in (("ModelForge", _app), ("TRL", _bare), ("Unsloth", _unsloth)):
        try:
            result = measure(values)
        except Exception as error:  # noqa: BLE001  # one program less; the others are compared
            result = {"ended": f"{type(error).__name__}: {error}"[-500:]}
        rows.append({"program": name} | result)
        record.keep(steps=STEPS, rows=BATCH, tokens=values["max_seq_length"], programs=rows)


def _app(values: dict[str, Any]) -> dict[str, Any]:
    services = forge(f"compare-{values.get('provider', 'huggingface')}")
    try:
        result = train(services, values)
    finally:
        services.close()
    speeds = [speed for speed in result.get("tokens_per_s", [])[FIRST:] if speed]
    return {
        "ended": result["ended"],
        "tokens_per_s": statistics.median(speeds) if speeds else None,
        "peak_gib": result.get("vram_gib"),
        **({"why": result["why"]} if "why" in result else {}),
    }


def _unsloth(values: dict[str, Any]) -> dict[str, Any]:
    from modelforge.hardware.machine import probe_machine
    from modelforge.preflight.checks.provider import unsloth_status

    machine = probe_machine(WORK)
    status = unsloth_status(machine, machine.gpus[0] if machine.gpus else None, device=DEVICE)
    if status.state != "ready":
        return {"ended": f"left out: {status.message}"}
    return _app(values | {"provider": "unsloth"})


def _bare(values: dict[str, Any]) -> dict[str, Any]:
    out = WORK / "bare.json"
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "bench.gpu_steps.bare", json.dumps(values), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"ended": done.stderr[-500:]}
    figures = json.loads(out.read_text(encoding="utf-8"))
    seconds = statistics.median(figures["seconds"][FIRST:])
    return {
        "ended": "finished",
        "tokens_per_s": round(figures["tokens"] / STEPS / seconds, 1),
        "peak_gib": round(figures["peak_gib"], 2),
    }


if __name__ == "__main__":
    main()
