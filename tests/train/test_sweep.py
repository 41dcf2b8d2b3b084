"""A sweep of real runs of a tiny model whose server is killed in the middle."""

from __future__ import annotations

import json
import os
import time
from urllib.parse import urlencode

import pytest

from tests.test_path import Server

pytest.importorskip("optuna")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX"),
]

STEPS, LIMIT_S = 16, 1200.0
# The budget as a number of runs, and by how much a sweep may exceed its deadline.
RUNS, LATE = 10, 0.1


@pytest.fixture
def server(home_with_starter):
    server = Server(home_with_starter)
    server.start()
    yield server
    server.end()


def settings(model, tmp_path):
    rows = [{"input": f"What is {n} plus 1?", "output": f"It is {n + 1}."} for n in range(48)]
    data = tmp_path / "sums.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return {
        "task": "text-generation",
        "model_name": str(model),
        "dataset": str(data),
        "compute_specs": "low_end",
        "use_4bit": False,
        "max_steps": STEPS,
        "eval_split": 0.5,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "max_seq_length": 64,
        "evaluation": {"samples": 0},
    }


def test_a_sweep_goes_on_after_a_kill_of_its_server(server, tiny_model, tmp_path):
    asked = settings(tiny_model, tmp_path)

    def run_is_over(run):
        view = server.call("GET", f"/api/runs/{run}")
        return view if view and view["state"] in ("finished", "failed", "lost") else None

    first = server.call("POST", "/api/runs", asked)["id"]
    measured = server.until(lambda: run_is_over(first), LIMIT_S, "a first run ends")
    assert measured["state"] == "finished", measured
    budget_s = RUNS * measured["duration"]
    query = urlencode({"vary": "learning_rate=1e-5..1e-2", "budget_s": budget_s})
    sweep = f"/api/sweeps/{server.call('POST', f'/api/sweeps?{query}', asked)['id']}"

    def second_trial():
        view = server.call("GET", sweep)
        trials = view["trials"] if view else []
        return trials if len(trials) > 1 and trials[1]["run"] else None

    seen = server.until(second_trial, budget_s, "the second trial has a run")
    server.kill()
    time.sleep(1.0)  # the run in progress goes on by itself
    server.start()

    def over():
        view = server.call("GET", sweep)
        return view if view and view["is_over"] else None

    def trials_ended():
        view = server.call("GET", sweep)
        is_done = view and (view["is_comparing"] or view["is_over"])
        return time.time() if is_done else None

    ended = server.until(trials_ended, LIMIT_S, "the trials end")
    view = server.until(over, LIMIT_S, "the sweep ends")
    assert ended <= view["deadline"] + LATE * budget_s, view
    runs = [trial["run"] for trial in view["trials"]]
    assert runs[: len(seen)] == [trial["run"] for trial in seen]
    assert len(set(runs)) == len(runs) > len(seen)
    # Each trial has one run, and there is no run of a trial that the sweep does not know.
    of_home = {run["id"] for run in server.call("GET", "/api/runs")}
    assert of_home == {first, *runs}
    assert view["trials"][0]["state"] == "complete", view
    assert view["result"]["kind"] in ("better", "own", "no-difference", "too-few-rows"), view
