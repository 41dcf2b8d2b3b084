"""Compare an app run with one open tab to a plain TRL script, in interleaved pairs.

Measures the speed ratio, the time from click to first step, and the event lag.

    python bench/training.py [PAIRS] [STEPS]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import (
    ROOT,
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

NAME = "training"
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


def main(pairs: int = 5, steps: int = 12) -> list[str]:
    """Measure `pairs` pairs of runs and return the lines of the report."""
    home = starter_home()
    rows, lags = [], []
    with (
        recorded(NAME),
        tempfile.TemporaryDirectory() as folder,
        serving(home) as server,
        browsing() as page,
    ):
        data = _rows(Path(folder) / "rows.jsonl")
        for number in range(pairs):
            app, seen = _app_run(server, page, home, data, steps)
            lags += seen
            bare = _bare_run(home, data, steps, Path(folder) / "bare.json")
            rows.append({"pair": number} | app | bare)
            print(rows[-1], flush=True)
    keep(NAME, rows)
    keep("lag", [{"lag_s": round(lag, 3)} for lag in lags])
    return lines()


def lines() -> list[str]:
    """Return the lines of the report from the stored figures."""
    rows, lags = kept(NAME), [row["lag_s"] for row in kept("lag")]
    if not rows or not lags:
        return []
    ratios = [row["app_tokens_per_s"] / row["bare_tokens_per_s"] for row in rows]
    gained = [row["bare_first_s"] - row["app_first_s"] for row in rows]
    return [
        "The starter model, LoRA r 16, batch 4 × 128 tokens, fp32, the same rows and settings.",
        "",
        (
            f"- App run with a tab open ÷ plain TRL, tokens/s: {spread(ratios, 3)} (aim ≥ 0.99; "
            f"{len(rows)} interleaved pairs)"
        ),
        (
            f"- Click → first step, warm worker: {spread([r['app_first_s'] for r in rows])} s; "
            f"plain script, cold: {spread([r['bare_first_s'] for r in rows])} s; "
            f"faster by {statistics.median(gained):.1f} s (aim ≥ 4)"
        ),
        (
            f"- Event lag worker → page over {len(lags)} steps: median "
            f"{statistics.median(lags):.2f} s, 95th percentile {percentile(lags, 0.95):.2f} s "
            f"(aim ≤ 0.7)"
        ),
    ]


def section() -> list[str]:
    """Return the section of docs/performance.md."""
    return titled("A run (`bench/training.py`)", NAME, lines())


def _rows(path: Path) -> Path:
    sample = (ROOT / "assets" / "samples" / "captain.jsonl").read_text("utf-8").splitlines()
    with path.open("w", encoding="utf-8") as file:
        for line in sample:
            question, answer = list(json.loads(line).values())[:2]
            row = {
                "prompt": [{"role": "user", "content": question}],
                "completion": [{"role": "assistant", "content": answer}],
            }
            file.write(json.dumps(row) + "\n")
    plain = path.with_name("pairs.jsonl")
    plain.write_text("\n".join(sample), "utf-8")
    return path


def _await_warm_worker(server: Server) -> None:
    until(lambda: server.get("/api/health")["warm"], 60, "no worker is warm")


def _app_run(
    server: Server, page: Any, home: Path, data: Path, steps: int
) -> tuple[dict[str, float], list[float]]:
    body = {
        "task": "text-generation",
        "model_name": "starter",
        "dataset": str(data.with_name("pairs.jsonl")),
        "compute_specs": "low_end",
        "use_4bit": False,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False,
        "learning_rate": 5e-4,
        "optim": "adamw_torch",
        "max_seq_length": 128,
        "max_steps": steps,
        "group_by_length": False,
        "eval_split": 0,
    }
    server.post("/api/preflight", body)  # as the form does
    _await_warm_worker(server)
    clicked = time.time()
    run_id = server.post("/api/runs", body)["id"]
    page.goto(f"{server.url}/?run={run_id}")
    page.evaluate(WATCH)
    wait_for_run(server, run_id)
    steps_done = [event for event in events_of(home, run_id) if event["kind"] == "step"]
    times = {event["step"]: event["t"] for event in steps_done}
    seen = page.evaluate("window.seen")
    lags = [shown - times[step] for step, shown in seen if step in times]
    later = steps_done[1:]
    return {
        "app_first_s": round(steps_done[0]["t"] - clicked, 3),
        "app_tokens_per_s": round(
            sum(event["tokens"] for event in later) / (later[-1]["t"] - steps_done[0]["t"]), 2
        ),
        "app_loss": steps_done[-1]["loss"],
    }, lags


def _bare_run(home: Path, data: Path, steps: int, out: Path) -> dict[str, float]:
    began = time.time()
    script = ROOT / "bench" / "bare_trl.py"
    model = home / "models" / "starter"
    subprocess.run(
        [sys.executable, str(script), str(model), str(data), str(steps), str(out)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    logged = json.loads(out.read_text("utf-8"))["steps"]
    first, last = logged[0], logged[-1]
    return {
        "bare_first_s": round(first["t"] - began, 3),
        "bare_tokens_per_s": round(
            (last["tokens"] - first["tokens"]) / (last["t"] - first["t"]), 2
        ),
        "bare_loss": last["loss"],
    }


if __name__ == "__main__":
    print(conditions())
    print("\n".join(main(*(int(word) for word in sys.argv[1:]))))
