"""Train 40 steps in fp16 with a paged optimizer, then again with a stop and a resume."""

from __future__ import annotations

import math
from typing import Any

from bench.gpu_steps.record import Record, run_step
from bench.gpu_steps.runs import PLAY, brief, follow, forge, largest_difference, settings, train
from modelforge.errors import ForgeError
from modelforge.forge import Forge

STEPS, STOP_AFTER = 40, 8
SAVING = {"trainer.save_steps": 5}
ON_GPU = {"hardware.precision": "fp16", "optim": "paged_adamw_32bit"}


def main(record: Record) -> None:
    """Compare the losses of an uninterrupted run with those of a resumed one."""
    values = settings("0.6B", 256, max_steps=STEPS, **SAVING, **({} if PLAY else ON_GPU))
    services = forge("resume")
    try:
        whole = train(services, values | {"evaluation.loss_guard": True})
        record.keep(
            whole=brief(whole),
            losses=list(whole.get("losses", {}).values()),
            skipped_steps=sum(not _finite(n) for n in whole.get("grad_norms", {}).values()),
        )
        first = train(services, values, lambda run: _stop_late(services, run))
        record.keep(stopped=brief(first), stopped_after=len(first.get("losses", {})))
        second = resume(services, first)
        record.keep(resumed=brief(second), largest_difference=largest_difference(whole, second))
    finally:
        services.close()


def resume(services: Forge, first: dict[str, Any]) -> dict[str, Any]:
    """Resume a stopped run, and return its figures."""
    if "id" not in first:
        return {"ended": "not started"}
    try:
        return follow(services, services.resume.resume(first["id"]))
    except ForgeError as error:
        return {"ended": "refused", "why": str(error)}


def _stop_late(services: Forge, run: str) -> None:
    events = services.runs.events(run)[0]
    if any(event.kind == "step" and event.data["step"] >= STOP_AFTER for event in events):
        services.runs.stop(run)


def _finite(norm: float | None) -> bool:
    return norm is not None and math.isfinite(norm)


if __name__ == "__main__":
    run_step(main)
