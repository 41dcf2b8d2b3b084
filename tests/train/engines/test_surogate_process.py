"""The worker of an engine is a process of the supervisor; its adapter is chatted with."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from modelforge.paths import Home
from modelforge.runs.events import read_events
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.states import RunState, read_facts

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

RUN = {"hardware": {"engine": "surogate"}, "max_steps": 1000, "lora_r": 4, "lora_alpha": 8}


def until(condition, what, limit_s=60.0):
    deadline = time.monotonic() + limit_s
    while not (seen := condition()):
        assert time.monotonic() < deadline, f"waited {limit_s} s for {what}"
        time.sleep(0.1)
    return seen


@pytest.fixture
def started(bench, surogate, tmp_path):
    """A run whose program ignores every request to end, its supervisor, and the program's pid."""
    surogate("deaf")
    run = bench.prepare(**RUN)
    home = Home(tmp_path / "home")
    home.root.mkdir()
    supervisor = Supervisor(home, runs=run.path.parent, stop_timeout_s=1.0, exit_timeout_s=1.0)
    supervisor.start(run)
    pid = run.engine / "output" / "pid"
    until(lambda: any(e.kind == "step" for e in read_events(run.events)[0]), "a step")
    program = int(pid.read_text("utf-8"))
    assert psutil.pid_exists(program)
    yield run, supervisor, program
    for process in (program, read_facts(run).process.pid):
        if psutil.pid_exists(process):
            os.kill(process, signal.SIGKILL)


def test_a_program_that_ignores_a_stop_is_ended_with_its_worker(started):
    run, supervisor, program = started
    supervisor.stop(run)

    def is_over():
        supervisor.tend()
        return supervisor.state(run).is_over and not psutil.pid_exists(program)

    until(is_over, "the end of worker and program")
    assert supervisor.state(run) in (RunState.STOPPED, RunState.LOST)


@pytest.mark.slow
def test_a_program_does_not_outlive_a_worker_that_is_killed(started):
    run, supervisor, program = started
    supervisor.tend()
    worker = read_facts(run).process.process
    worker.kill()

    def is_gone():
        supervisor.tend()
        return not psutil.pid_exists(program) or (
            psutil.Process(program).status() == psutil.STATUS_ZOMBIE
        )

    until(is_gone, "the end of the program")
    assert supervisor.state(run) is RunState.LOST


def test_the_adapter_of_the_program_answers_in_a_chat(bench, surogate):
    from peft import PeftModel

    from modelforge.chat.load import load_tokenizer, load_weights
    from modelforge.chat.requests import LoadRequest

    surogate()
    run = bench.prepare(**{**RUN, "max_steps": 2}, adapter={"merge_after_training": True})
    finished = bench.work(run)[-1]
    assert finished.data["merged"] == run.merged.name
    assert any(run.merged.glob("*.safetensors"))
    request = LoadRequest(str(bench.model), adapter=str(run.output), run=str(run.path))
    tokenizer = load_tokenizer(request, request.adapter)
    model = PeftModel.from_pretrained(load_weights(request), request.adapter)
    messages = [{"role": "user", "content": "What does blue mean?"}]
    tokens = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**tokens, max_new_tokens=3, do_sample=False)
    assert answer.shape[1] > tokens["input_ids"].shape[1]
