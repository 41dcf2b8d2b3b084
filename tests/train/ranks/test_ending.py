"""A process that dies ends the run with its cause; it resumes on as many GPUs, or on others."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from modelforge.runs.events import read_events

pytestmark = [pytest.mark.torch, pytest.mark.slow]
STEPS = {
    "max_steps": 12,
    "gradient_accumulation_steps": 4,
    "lora_dropout": 0.0,
    "learning_rate": 1e-3,
    "trainer": {"save_steps": 4, "save_total_limit": 5},
}
TWO = {"device": "cpu", "gpus": 2, "sharding": "fsdp2"}
DEADLINE_S = 600


def kinds(run, kind):
    return [record.data for record in read_events(run.events)[0] if record.kind == kind]


def losses(run):
    """The last loss of each step: a resumed run does some steps again."""
    return {data["step"]: data["loss"] for data in kinds(run, "step")}


def process_of_rank(worker: subprocess.Popen[bytes], rank: int) -> psutil.Process:
    children = psutil.Process(worker.pid).children(recursive=True)
    return next(each for each in children if each.environ().get("RANK") == str(rank))


def started(run, step: int) -> subprocess.Popen[bytes]:
    """Start the worker of a run, and wait until it has come to this step."""
    command = [sys.executable, "-m", "modelforge.train", str(run.path)]
    with run.log.open("ab") as log:
        worker = subprocess.Popen(command, stdout=log, stderr=log, cwd=Path.cwd())
    deadline = time.monotonic() + DEADLINE_S
    while not any(data["step"] >= step for data in kinds(run, "step")):
        assert worker.poll() is None, run.log.read_text()[-3000:]
        assert time.monotonic() < deadline, run.log.read_text()[-3000:]
        time.sleep(0.05)
    return worker


def killed_at(run, step: int, rank: int) -> int:
    """Start the worker of a run, and kill one of its processes; return the exit code."""
    worker = started(run, step)
    others = psutil.Process(worker.pid).children(recursive=True)
    process_of_rank(worker, rank).send_signal(signal.SIGKILL)
    code = worker.wait(120)
    assert not [each for each in others if each.is_running()]
    return code


def continued(bench, source, step: int, **settings):
    """A new run that resumes from a checkpoint of another one."""
    run = bench.prepare(**STEPS, **settings)
    record = json.loads(run.config.read_text())
    record["plan"]["resume_from"] = str(source.checkpoints / f"checkpoint-{step}")
    run.config.write_text(json.dumps(record))
    return run


def test_a_run_survives_a_killed_process_and_changes_of_their_number(bench):
    one = bench.prepare(**STEPS)
    bench.work(one)
    both = bench.prepare(hardware=TWO, **STEPS)
    assert killed_at(both, 6, rank=1) == 1
    failure = kinds(both, "failed")[-1]
    assert failure["cause"] == "killed"
    assert "The process of GPU 2 of the run ended by the signal SIGKILL" in failure["what"]
    assert "memory ran out" in failure["what"]
    assert json.loads(both.exit.read_text())["state"] == "failed"
    assert not both.ranks.exists()

    assert bench.work(both)[-1].kind == "finished"
    assert kinds(both, "resumed")[-1]["step"] in (4, 8)
    assert losses(both) == pytest.approx(losses(one), abs=1e-4)

    alone = continued(bench, both, 8)
    assert bench.work(alone)[-1].kind == "finished"
    pair = continued(bench, one, 8, hardware=TWO)
    assert bench.work(pair)[-1].kind == "finished"
    rest = {step: loss for step, loss in losses(one).items() if step > 8}
    assert losses(alone) == pytest.approx(rest, abs=1e-4)
    assert losses(pair) == pytest.approx(rest, abs=1e-4)


def test_a_stopped_run_keeps_the_whole_adapter_of_a_divided_model(bench):
    from safetensors.torch import load_file

    run = bench.prepare(hardware=TWO, **STEPS | {"max_steps": 500})
    worker = started(run, 3)
    run.stop.write_text("keep")
    assert worker.wait(DEADLINE_S) == 0
    (ending,) = kinds(run, "stopped")
    assert ending["kept"]
    weights = load_file(run.output / "adapter_model.safetensors")
    checkpoint = load_file(
        run.checkpoints / f"checkpoint-{ending['step']}" / "adapter_model.safetensors"
    )
    assert weights.keys() == checkpoint.keys()
    assert all((weights[name] == checkpoint[name]).all() for name in weights)
    assert {tuple(w.shape) for n, w in weights.items() if "q_proj.lora_A" in n} == {(16, 32)}


def test_processes_end_with_the_one_that_started_them(bench):
    run = bench.prepare(hardware=TWO, **STEPS | {"max_steps": 500})
    worker = started(run, 2)
    processes = psutil.Process(worker.pid).children(recursive=True)
    assert len(processes) == 2
    worker.kill()
    worker.wait(30)
    _gone, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive
