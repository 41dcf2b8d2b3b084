"""Train with too little GPU memory: recovery, memory after it, and the same losses."""

from __future__ import annotations

import os

from bench.gpu_steps.record import Record, run_step
from bench.gpu_steps.runs import WORKER, brief, forge, largest_difference, settings, train
from bench.gpu_steps.worker import LIMIT_GIB

GIB = 6.0


def main(record: Record) -> None:
    """Run with 6 GiB, then with all memory."""
    values = settings("0.6B", 1024, per_device_train_batch_size=16)
    os.environ[LIMIT_GIB] = str(GIB)
    services = forge("short", worker=WORKER)
    short = record.measure("short", lambda: train(services, values)) or {}
    services.close()
    record.keep(limit_gib=GIB, adjusted=short.get("adjusted", []), short=brief(short))
    del os.environ[LIMIT_GIB]
    services = forge("enough")
    enough = record.measure("enough", lambda: train(services, values)) or {}
    services.close()
    record.keep(
        enough=brief(enough),
        losses=[
            {"step": step, "short": loss, "enough": enough.get("losses", {}).get(step)}
            for step, loss in short.get("losses", {}).items()
        ],
        largest_difference=largest_difference(short, enough),
    )


if __name__ == "__main__":
    run_step(main)
