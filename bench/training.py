"""Compare an app run, with and without an open tab, to a plain TRL script, in fair rounds.

Both train the same tokens in the same order with the same loss chunk. Measures the speed ratio, the
time from click to first step, and the event lag.

    python bench/training.py [ROUNDS] [STEPS]
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import rounds
import short_rows
from harness import (
    Server,
    browsing,
    conditions,
    events_of,
    keep,
    kept,
    percentile,
    recorded,
    serving,
    spread,
    starter_home,
    titled,
    until,
    wait_for_run,
)
from recommended import bare_figures

from modelforge.config.plan.make import DEFAULT_LOSS_PIECE, LOSS_PIECE

NAME = "training"
OURS, CLOSED, BASELINE = "app", "closed", "bare"
TITLES = {
    OURS: "ModelForge, one tab open",
    CLOSED: "ModelForge, no tab open",
    BASELINE: "TRL script",
}
NO_PAGE = "about:blank"
ROWS_PER_STEP = 4
CHUNK = LOSS_PIECE.get("cpu", DEFAULT_LOSS_PIECE)
WATCH = """() => {
  window.seen = [];
  const look = () => {
    const line = document.querySelector('[role=progressbar]')?.nextElementSibling?.textContent;
    const step = Number(line?.match(/(?:step|update) (\\d+) of/i)?.[1]);
    if (step && (!window.seen.length || window.seen.at(-1)[0] !== step))
      window.seen.push([step, Date.now() / 1000]);
  };
  new MutationObserver(look).observe(document.body,
    {subtree: true, childList: true, attributes: true, characterData: true});
}"""


def main(count: int = 5, steps: int = 12) -> list[str]:
    """Measure `count` rounds and return the lines of the report."""
    home = starter_home()
    lags: list[float] = []
    with (
        recorded(NAME),
        tempfile.TemporaryDirectory() as folder,
        serving(home) as server,
        browsing() as page,
    ):
        files = short_rows.write(Path(folder), ROWS_PER_STEP * steps)
        programs = {
            OURS: partial(_app_run, server, page, home, files, steps, lags),
            CLOSED: partial(_app_run, server, page, home, files, steps, None),
            BASELINE: partial(_bare_run, page, home, files, steps, Path(folder) / "bare.json"),
        }
        keep(NAME, rounds.measure(programs, BASELINE, count))
    keep("lag", [{"lag_s": round(lag, 3)} for lag in lags])
    return lines()


def lines() -> list[str]:
    """Return the lines of the report from the stored figures."""
    rows, lags = kept(NAME), [row["lag_s"] for row in kept("lag")]
    if not rows or not lags:
        return []
    good = rounds.counted(rows)
    gained = [row["bare_first_s"] - row["app_first_s"] for row in good]
    return [
        _conditions(rows),
        "",
        *rounds.table(rows, TITLES, OURS),
        "",
        f"{rounds.summary(rows)} Aim: at least 0.99 times the script.",
        "",
        _resolution(good),
        (
            f"- Click → first step, warm worker: {spread([r['app_first_s'] for r in good])} s; "
            f"plain script, cold: {spread([r['bare_first_s'] for r in good])} s; "
            f"faster by {statistics.median(gained):.1f} s (aim ≥ 4)"
        ),
        (
            f"- Event lag worker → page over {len(lags)} steps: median "
            f"{statistics.median(lags):.2f} s, 95th percentile {percentile(lags, 0.95):.2f} s "
            f"(aim ≤ 0.7)"
        ),
    ]


def _resolution(good: rounds.Rows) -> str:
    speeds = [row[f"{BASELINE}_tokens_per_s"] for row in good]
    spread_share = max(speeds) / min(speeds) - 1
    return (
        f"- The script alone differed by {spread_share:.0%} between rounds of equal work: smaller "
        "differences between the programs are within the noise of this machine"
    )


def _conditions(rows: rounds.Rows) -> str:
    text = f"The starter model, LoRA r 16, fp32, {ROWS_PER_STEP} rows per step"
    if "order" in rows[0]:
        return (
            f"{text}, {short_rows.LENGTHS}; the same tokens, and a loss computed for {CHUNK} "
            "tokens at a time in both."
        )
    return (
        f"{text}, up to 128 tokens; not the same work: the script trained a line break more in "
        f"each row and computed the loss for {DEFAULT_LOSS_PIECE} tokens at a time, the app for "
        f"{CHUNK}."
    )


def section() -> list[str]:
    """Return the section of docs/performance.md."""
    return titled("A run (`bench/training.py`)", NAME, lines())


def _app_run(
    server: Server,
    page: Any,
    home: Path,
    files: short_rows.Files,
    steps: int,
    lags: list[float] | None,
    seed: int,
) -> dict[str, Any]:
    """Train in the app; with `lags`, in front of an open tab, whose lags are added to it."""
    page.goto(NO_PAGE)
    body = {
        "task": "text-generation",
        "model_name": "starter",
        "dataset": str(files.pairs),
        "compute_specs": "low_end",
        "model": {"chat_template": str(files.template)},
        "use_4bit": False,
        "per_device_train_batch_size": ROWS_PER_STEP,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False,
        "learning_rate": 5e-4,
        "optim": "adamw_torch",
        "max_seq_length": 128,
        "max_steps": steps,
        "group_by_length": False,
        "eval_split": 0,
        "trainer": {"seed": seed},
    }
    server.post("/api/preflight", body)  # as the form does; it warms a worker
    until(lambda: server.get("/api/health")["warm"], 60, "no worker is warm")
    clicked = time.time()
    run_id = server.post("/api/runs", body)["id"]
    if lags is not None:
        page.goto(f"{server.url}/?run={run_id}")
        page.evaluate(WATCH)
    wait_for_run(server, run_id)
    steps_done = [event for event in events_of(home, run_id) if event["kind"] == "step"]
    times = {event["step"]: event["t"] for event in steps_done}
    if lags is not None:
        seen = page.evaluate("window.seen")
        lags += [shown - times[step] for step, shown in seen if step in times]
    later = steps_done[1:]
    speed = sum(event["tokens"] for event in later) / (later[-1]["t"] - steps_done[0]["t"])
    return {
        "tokens_per_s": round(speed, 2),
        "tokens": sum(event["tokens"] for event in steps_done),
        "train_loss": round(steps_done[-1]["loss"], 4),
        "first_s": round(steps_done[0]["t"] - clicked, 3),
    }


def _bare_run(
    page: Any, home: Path, files: short_rows.Files, steps: int, out: Path, seed: int
) -> dict[str, Any]:
    page.goto(NO_PAGE)
    began = time.time()
    values = {
        "seed": seed,
        "dtype": "float32",
        "loss_chunk": CHUNK,
        "adapter": None,
        "lora": {"r": 16, "lora_alpha": 32, "lora_dropout": 0.1},
        "args": {
            "max_steps": steps,
            "per_device_train_batch_size": ROWS_PER_STEP,
            "gradient_checkpointing": False,
            "learning_rate": 5e-4,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.03,
            "weight_decay": 0.001,
            "max_grad_norm": 0.3,
            "optim": "adamw_torch",
            "max_length": 128,
            "bf16": False,
        },
    }
    figures = bare_figures(home / "models" / "starter", files, values, out)
    first = json.loads(out.read_text("utf-8"))["steps"][0]["t"]
    return figures | {"first_s": round(first - began, 3)}


if __name__ == "__main__":
    print(conditions())
    print("\n".join(main(*(int(word) for word in sys.argv[1:]))))
