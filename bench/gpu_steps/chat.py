"""Chat with a 4-bit model and its adapter: speed, memory, and preflight while it is loaded."""

from __future__ import annotations

import time

from bench.gpu_steps.record import Record, run_step
from bench.gpu_steps.runs import PLAY, brief, forge, layer, settings, train, used_gib
from modelforge.forge import Forge

TOKENS = 32
NEAR_GIB = 0.1
PATIENCE_S, POLL_S = 10.0, 0.1


def main(record: Record) -> None:
    """Train an adapter, chat with it, and wait until its memory is free again."""
    values = settings("0.6B", 256, max_steps=2, use_4bit=not PLAY)
    services = forge("chat")
    try:
        run = train(services, values)
        record.keep(run=brief(run))
        before = used_gib()
        record.measure("chat", lambda: chat(services, str(run.get("id"))))
        loaded = used_gib()
        if before is not None and loaded is not None:
            record.keep(memory_gib=round(loaded - before, 3))
        record.measure("findings while it is loaded", lambda: findings(services, values))
        began = time.monotonic()
        services.chat.close()
        record.keep(close_seconds=round(time.monotonic() - began, 2))
        if before is not None:
            record.measure("seconds until the memory is free", lambda: until_free(before))
    finally:
        services.close()


def chat(services: Forge, run: str) -> dict[str, float | str]:
    """Return the time to load, and to the end of a reply."""
    began = first = time.monotonic()
    text, ended = "", {}
    for part in services.chat.ask(
        run, [{"role": "user", "content": "What is red?"}], max_new_tokens=TOKENS
    ):
        if not text:
            first = time.monotonic()
        text += str(part.get("text", "")) if "phase" not in part else ""
        ended = part
    seconds = {"until_first_text": first - began, "reply": time.monotonic() - first}
    return {name: round(value, 2) for name, value in seconds.items()} | {"last": str(ended)[:300]}


def findings(services: Forge, values: dict[str, object]) -> list[str]:
    """Return the codes of all findings of a preflight."""
    report = services.preflight.check(layer(values)).report
    return [f"{each.level}: {each.code}" for each in report.findings] if report else []


def until_free(before: float) -> float | str:
    """Return the seconds until no more memory is used than before."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE_S:
        used = used_gib()
        if used is not None and used - before < NEAR_GIB:
            return round(time.monotonic() - began, 2)
        time.sleep(POLL_S)
    return f"more than {PATIENCE_S:.0f}"


if __name__ == "__main__":
    run_step(main)
