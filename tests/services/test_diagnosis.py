"""Aid after a run, with real folders and processes: causes, the button, verdict and bundle."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import zipfile
from pathlib import Path

import pytest

from modelforge.config.resolve import Layer
from modelforge.diagnosis.classify import cause_of
from modelforge.errors import ConfigError
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.atomic_files import read_json, write_json
from modelforge.runs.event_types import (
    EvalEvent,
    FailedEvent,
    FinishedEvent,
    NoteEvent,
    ResumedEvent,
    SampleEvent,
    StartedEvent,
    StepEvent,
)
from modelforge.runs.events import EventWriter
from modelforge.runs.states import RunState, read_facts

ACTORS = Path(__file__).parents[1] / "actors"
ROW = "The ship sails at dawn, and nobody must know"


@pytest.fixture
def body(tmp_path, model):
    """The settings of a run that can be started, and rows of its own."""
    rows = tmp_path / "rows.jsonl"
    lines = [json.dumps({"input": f"{ROW} {n}?", "output": f"{ROW} {n}."}) for n in range(20)]
    rows.write_text("\n".join(lines), "utf-8")
    return {
        "task": "text-generation",
        "model_name": str(model),
        "dataset": str(rows),
        "compute_specs": "low_end",
        "use_4bit": False,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
    }


@pytest.fixture
def opened(tmp_path):
    forges = []

    def opened(actor: str) -> Forge:
        forges.append(
            Forge(Home(tmp_path / "home"), worker=[sys.executable, str(ACTORS / f"{actor}.py")])
        )
        return forges[-1]

    yield opened
    for forge in forges:
        for view in forge.runs.views():
            forge.runs.stop(view.id)
            until_over(forge, view.id)
        forge.close()


def until(condition, what, limit_s=20.0):
    deadline = time.monotonic() + limit_s
    while not (seen := condition()):
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.01)
    return seen


def until_over(forge, run_id):
    until(lambda: forge.runs.state(run_id).is_over, "the run is over")
    until(lambda: not read_facts(forge.runs.folder(run_id)).alive, "its worker is gone")


def killed(forge, body, number=signal.SIGKILL):
    run_id = forge.runs.start(Layer("body", body))
    until(lambda: "working" in forge.runs.log(run_id), "the worker works")
    os.kill(read_json(forge.runs.folder(run_id).process)["pid"], number)
    until_over(forge, run_id)
    assert forge.runs.state(run_id) is RunState.LOST
    return run_id


def test_a_failure_has_the_action_that_suits_its_settings(opened, body):
    forge = opened("fails")
    run_id = forge.runs.start(Layer("body", body))
    until_over(forge, run_id)
    cause = forge.diagnosis.cause(run_id)
    assert (cause.code, cause.what) == ("out-of-memory", "The GPU is full.")
    assert cause.action["settings"] == {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 4,
    }
    changes = {
        change.name: (change.before, change.after) for change in forge.diagnosis.changes(run_id)
    }
    assert changes == {
        "per_device_train_batch_size": (4, 2),
        "gradient_accumulation_steps": (2, 4),
    }


def test_the_button_starts_the_same_run_with_the_remedy(opened, body):
    forge = opened("fails")
    run_id = forge.runs.start(Layer("body", body), name="ships")
    until_over(forge, run_id)
    again = forge.diagnosis.apply_fix(run_id, request_id="a click")
    assert forge.diagnosis.apply_fix(run_id, request_id="a click") == again
    view = forge.runs.view(again)
    assert view.name == "ships (again)"
    assert view.config["per_device_train_batch_size"] == 2
    assert view.config["dataset"] == body["dataset"]
    assert view.origins["per_device_train_batch_size"] == "remedy"
    until_over(forge, again)
    third = forge.diagnosis.apply_fix(again)
    assert forge.runs.view(third).name == "ships (again)"
    assert forge.runs.view(third).config["per_device_train_batch_size"] == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_a_killed_worker_is_distinguished_from_one_that_crashed(opened, body):
    forge = opened("obeys")
    shot = forge.diagnosis.cause(killed(forge, body))
    assert (shot.code, shot.certain) == ("killed", False)
    assert "settings" in shot.action
    assert forge.diagnosis.cause(killed(forge, body, signal.SIGSEGV)).code == "segfault"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_memory_that_ran_out_meanwhile_is_the_likelier_cause(opened, body):
    forge = opened("obeys")
    run_id = killed(forge, body)
    folder = forge.runs.folder(run_id)
    record = read_json(folder.process)
    counts = record["memory_kills"]
    if not counts:
        pytest.skip("this system does not count them")
    folder.diagnosis.unlink(missing_ok=True)
    write_json(folder.process, record | {"memory_kills": dict.fromkeys(counts, -1)})
    cause = forge.diagnosis.cause(run_id)
    assert cause.code == "killed-for-memory"
    assert cause.what.startswith("Probably")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_the_next_server_knows_what_the_first_one_saw(opened, body):
    forge = opened("obeys")
    run_id = killed(forge, body, signal.SIGSEGV)
    assert forge.diagnosis.cause(run_id).code == "segfault"
    folder = forge.runs.folder(run_id)
    kept = read_json(folder.diagnosis)
    assert kept["evidence"]["exit_code"] == -signal.SIGSEGV
    # Another process of the same run died otherwise: what was kept is of no use then.
    write_json(folder.process, read_json(folder.process) | {"pid": 2**22 + 1})
    assert forge.diagnosis.cause(run_id).code == "unexpected"


def test_a_restart_of_the_computer_is_seen(opened, body):
    forge = opened("vanishes")
    run_id = forge.runs.start(Layer("body", body))
    until_over(forge, run_id)
    assert forge.diagnosis.cause(run_id).code == "unexpected"
    folder = forge.runs.folder(run_id)
    folder.diagnosis.unlink(missing_ok=True)
    before = {"boot_id": "another", "birth": 1.0}
    write_json(folder.process, read_json(folder.process) | before)
    assert forge.diagnosis.cause(run_id).code == "restarted"


def test_the_end_of_the_log_speaks_where_nothing_else_does(opened, body):
    forge = opened("vanishes")
    run_id = forge.runs.start(Layer("body", body))
    until_over(forge, run_id)
    with forge.runs.folder(run_id).log.open("a", encoding="utf-8") as log:
        log.write("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n")
    assert forge.diagnosis.cause(run_id).code == "out-of-memory"


def test_a_run_that_ended_well_needs_no_aid(opened, body):
    forge = opened("finishes")
    run_id = forge.runs.start(Layer("body", body))
    until_over(forge, run_id)
    assert forge.diagnosis.cause(run_id) is None
    assert forge.diagnosis.changes(run_id) == []
    with pytest.raises(ConfigError, match="No setting"):
        forge.diagnosis.apply_fix(run_id)


def test_what_no_setting_helps_against_is_not_started_again(opened, body):
    forge = opened("vanishes")
    run_id = forge.runs.start(Layer("body", body))
    until_over(forge, run_id)
    with forge.runs.folder(run_id).log.open("a", encoding="utf-8") as log:
        log.write("OSError: [Errno 28] No space left on device\n")
    assert forge.diagnosis.cause(run_id).action["kind"] == "link"
    with pytest.raises(ConfigError, match="Free some space"):
        forge.diagnosis.apply_fix(run_id)


def test_the_verdict_is_read_off_the_events_and_heeds_a_resume(opened, body):
    forge = opened("vanishes")
    run_id = forge.runs.start(Layer("body", body))
    until_over(forge, run_id)
    assert forge.diagnosis.verdict(run_id) is None
    path = forge.runs.folder(run_id).events
    path.unlink()
    with EventWriter(path) as events:
        events.write(StartedEvent(pid=1, birth=1.0))
        for step in range(1, 21):
            events.write(StepEvent(step=step, loss=3 - step / 10, metrics={}))
        for step in range(21, 41):  # spoilt, and never happened: the run went on from 20
            events.write(StepEvent(step=step, loss=99.0, metrics={}))
        events.write(FailedEvent(cause="unexpected", what="x", remedy="y"))
        events.write(StartedEvent(pid=2, birth=2.0))
        events.write(ResumedEvent(step=20, stage=None, checkpoint="checkpoint-20", damaged=[]))
        events.write(EvalEvent(step=20, loss=1.5, best=True))
        events.write(FinishedEvent(steps=20, seconds=3.0, best_step=20))
    verdict = forge.diagnosis.verdict(run_id)
    assert verdict.kind == "better"
    assert verdict.numbers["steps measured"] == 20
    assert verdict.numbers["loss at last"] == 1.0


PLANTED = ["hf_" + "Q7x" * 11, "sk-" + "zY9" * 12, "abcdef0123" * 4, "hunter2-is-weak"]
MAIL = "anna.schmidt@example.com"


def test_a_bundle_holds_what_helps_and_nothing_private(opened, body, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", PLANTED[2])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PLANTED[3])
    monkeypatch.setenv("USER", "annaschmidt")
    forge = opened("vanishes")
    secret = {"model": {"system_prompt": f"You are a spy. {ROW}"}}
    run_id = forge.runs.start(Layer("body", body | secret), name="of annaschmidt")
    until_over(forge, run_id)
    folder = forge.runs.folder(run_id)
    private = (
        f"login {PLANTED[0]} and {PLANTED[1]} and {PLANTED[2]} by {PLANTED[3]}\n"
        f"https://bob:{PLANTED[0]}@huggingface.co/x /home/annaschmidt/x C:\\Users\\annaschmidt\n"
        f"mail {MAIL}\nAuthorization: Bearer {PLANTED[1]}\n"
    )
    with folder.log.open("a", encoding="utf-8") as log:
        log.write(private + "x" * 5000 + "\nRuntimeError: something odd\n")
    with EventWriter(folder.events) as events:
        events.write(SampleEvent(step=3, prompt=f"{ROW}?", completion=f"{ROW}!"))
        events.write(NoteEvent(code="x", text=private))
        newer = {"n": 1, "t": 1.0, "kind": "later-kind", "data": {"rows": [{"prompt": ROW}]}}
        with folder.events.open("a", encoding="utf-8") as file:
            file.write(json.dumps(newer) + "\n")
        for step in range(4000):
            events.write(StepEvent(step=step, loss=1.0, learning_rate=2e-4, tokens_per_s=410.5))
    made = forge.diagnosis.support_bundle(run_id, doctor=[{"name": "PyTorch", "what": private}])
    try:
        with zipfile.ZipFile(made) as archive:
            files = {
                name.partition("/")[2]: archive.read(name).decode() for name in archive.namelist()
            }
        assert made.stat().st_size < 2**20
    finally:
        made.unlink()
    assert set(files) == {
        "README.txt", "config.json", "preflight.json", "environment.json", "process.json",
        "events.jsonl", "worker.log", "files.json", "diagnosis.json", "doctor.json",
    }  # fmt: skip
    whole = "\n".join(files.values())
    for secret in (*PLANTED, MAIL, ROW, "annaschmidt", str(tmp_path / "home"), "hunter2"):
        assert secret not in whole, secret
        assert json.dumps(secret)[1:-1] not in whole, secret
    assert json.loads(files["config.json"])["config"]["per_device_train_batch_size"] == 4
    assert "pid" not in json.loads(files["process.json"])
    assert "RuntimeError: something odd" in files["worker.log"]
    assert '"tokens_per_s": 410.5' in files["events.jsonl"]
    assert '"started"' in files["events.jsonl"].splitlines()[0]
    assert json.loads(files["diagnosis.json"])["code"] == "unexpected"


def test_every_code_of_our_own_errors_that_has_a_fix_is_known():
    settings = {"fp16": True, "learning_rate": 1e-3}
    assert cause_of("fp16-needs-gpu", settings).action["settings"] == {
        "fp16": False,
        "hardware.precision": "fp32",
    }
    assert "learning_rate" in cause_of("loss-not-finite", settings).action["settings"]
