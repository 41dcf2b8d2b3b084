"""Runs over ssh on this computer, with an sshd of the test's own."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from modelforge.config.resolve import Layer
from modelforge.errors import BusyError, ConfigError
from modelforge.launchers.launcher import open_launcher
from modelforge.runs.atomic_files import find_json
from modelforge.runs.checkpoints import newest_valid
from modelforge.runs.process.launch import Target, read_launch, write_launch
from modelforge.runs.states import RunState, read_facts
from tests.launchers.conftest import adapter, over, started, stepped, until, whole


def jobs(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "far" / "jobs").glob("*.json"))


def worker(tmp_path: Path) -> psutil.Process:
    return psutil.Process(json.loads(jobs(tmp_path)[-1].read_text())["pid"])


def test_a_run_elsewhere_stands_in_the_history_and_its_files_come_home(
    quick_forge, quick_host, recipe, tmp_path
):
    forge = quick_forge
    run_id = forge.runs.start(Layer("body", recipe), on=quick_host, name="far away")
    folder = forge.runs.folder(run_id)
    assert forge.runs.active() is None, "the GPU here is free"
    assert over(forge, run_id) is RunState.FINISHED, folder.relay_log.read_text()
    far = tmp_path / "far" / "runs" / run_id
    assert folder.events.read_bytes() == (far / "events.jsonl").read_bytes()
    assert "the worker begins" in folder.log.read_text()
    assert adapter(folder) == (far / "output" / "adapter_model.safetensors").read_text()
    # It names the base model here again, as a run that trained here does.
    config = find_json(folder.output / "adapter_config.json")
    assert config == {"base_model_name_or_path": recipe["model_name"]}
    assert not folder.checkpoints.exists(), "those of a finished run stay there"
    view = forge.runs.view(run_id)
    assert view.elsewhere.target == "box"
    assert view.elsewhere.since
    assert forge.history.page().rows[0].target == "box"
    forge.targets.fetch(folder)
    newest, damaged = newest_valid(folder)
    assert (newest.step, damaged) == (12, [])
    config = find_json(newest.path / "adapter_config.json")
    assert config == {"base_model_name_or_path": recipe["model_name"]}
    assert adapter(folder) == whole(forge, recipe)


def test_a_stop_ends_the_run_there_and_it_resumes_here_to_the_same_bytes(
    quick_forge, quick_host, recipe, tmp_path
):
    forge = quick_forge
    (tmp_path / "far" / "hold").touch()
    run_id = started(forge, recipe, quick_host)
    stepped(forge, run_id, 5)
    assert forge.runs.stop(run_id) is RunState.STOPPING
    assert over(forge, run_id) is RunState.STOPPED
    folder = forge.runs.folder(run_id)
    assert newest_valid(folder)[0].step == 5
    forge.resume.resume(run_id, on="here")
    assert not folder.launch.exists()
    assert over(forge, run_id) is RunState.FINISHED
    kinds = [event.kind for event in forge.runs.events(run_id)[0]]
    assert kinds.count("resumed") == 1
    assert adapter(folder) == whole(forge, recipe)


@pytest.mark.slow
def test_a_run_begun_here_resumes_there_to_the_same_bytes(
    quick_forge, quick_host, recipe, tmp_path
):
    forge = quick_forge
    hold = forge.home.root / "hold"
    hold.touch()
    run_id = forge.runs.start(Layer("body", recipe))
    stepped(forge, run_id, 5)
    forge.runs.stop(run_id)
    assert over(forge, run_id) is RunState.STOPPED
    hold.unlink()
    forge.resume.resume(run_id, on=quick_host)
    assert over(forge, run_id) is RunState.FINISHED
    folder = forge.runs.folder(run_id)
    numbers = [event.n for event in forge.runs.events(run_id)[0]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(jobs(tmp_path)) == 1
    assert adapter(folder) == whole(forge, recipe)


def test_a_lost_connection_loses_nothing(quick_forge, quick_host, recipe, sshd, tmp_path):
    forge = quick_forge
    hold = tmp_path / "far" / "hold"
    hold.touch()
    run_id = started(forge, recipe, quick_host)
    folder = forge.runs.folder(run_id)
    stepped(forge, run_id, 2)
    sshd.end()
    try:
        noted = until(
            lambda: (launch := read_launch(folder.launch)).no_connection_since and launch,
            "the missing connection is noted",
        )
        assert "does not answer" in noted.note
        # Also without its relay the run is not lost.
        who = read_facts(folder).process
        os.kill(who.pid, signal.SIGKILL)
        until(lambda: not who.alive, "the relay is dead")
        assert forge.runs.state(run_id) is RunState.RUNNING
        # The worker there goes on to its end meanwhile.
        hold.unlink()
    finally:
        sshd.start()
    assert over(forge, run_id) is RunState.FINISHED
    assert read_facts(folder).process != who, "another relay was started"
    numbers = [event.n for event in forge.runs.events(run_id)[0]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(jobs(tmp_path)) == 1, "it was submitted once"
    assert adapter(folder) == whole(forge, recipe)


@pytest.mark.slow
def test_a_killed_worker_is_lost_with_its_cause_and_resumes_there(
    quick_forge, quick_host, recipe, tmp_path
):
    forge = quick_forge
    hold = tmp_path / "far" / "hold"
    hold.touch()
    run_id = started(forge, recipe, quick_host)
    folder = forge.runs.folder(run_id)
    stepped(forge, run_id, 5)
    worker(tmp_path).kill()
    assert over(forge, run_id) is RunState.LOST
    cause = forge.diagnosis.cause(run_id)
    assert (cause.code, cause.where) == ("target", "box")
    assert "ended without a message" in cause.what
    assert newest_valid(folder)[0].step == 5, "what a resume needs is here"
    hold.unlink()
    forge.resume.resume(run_id)
    assert over(forge, run_id) is RunState.FINISHED
    assert len(jobs(tmp_path)) == 2
    assert adapter(folder) == whole(forge, recipe)


@pytest.mark.slow
def test_a_job_whose_submission_was_interrupted_is_found_again(
    quick_forge, quick_host, recipe, tmp_path
):
    forge = quick_forge
    hold = tmp_path / "far" / "hold"
    hold.touch()
    run_id = started(forge, recipe, quick_host)
    folder = forge.runs.folder(run_id)
    launch = until(lambda: (now := read_launch(folder.launch)).id and now, "it is submitted")
    who = read_facts(folder).process
    os.kill(who.pid, signal.SIGKILL)
    until(lambda: not who.alive, "the relay is dead")
    # As if the kill had come between the submission and its record.
    write_launch(folder.launch, launch.changed(id=""))
    hold.unlink()
    assert over(forge, run_id) is RunState.FINISHED
    assert len(jobs(tmp_path)) == 1
    assert read_launch(folder.launch).id == launch.id


@pytest.mark.slow
def test_a_target_takes_as_many_runs_as_it_has_slots(quick_forge, quick_host, recipe, tmp_path):
    forge = quick_forge
    hold = tmp_path / "far" / "hold"
    hold.touch()
    first = started(forge, recipe, quick_host)
    with pytest.raises(BusyError, match="box is in use by a run") as refused:
        forge.runs.start(Layer("body", recipe), on=quick_host)
    assert refused.value.holder == "box"
    with pytest.raises(BusyError, match=f"The run {first} is at box"):
        forge.targets.remove("box")
    waiting = forge.queue.add(Layer("body", recipe), on=quick_host)
    assert forge.queue.view().runs[0].target == "box"
    assert forge.queue.view().why == "box is in use by a run."
    here = forge.queue.add(Layer("body", recipe))
    until(lambda: forge.queue.start_next() == here, "the run for this computer does not wait")
    assert over(forge, here) is RunState.FINISHED
    hold.unlink()
    assert over(forge, first) is RunState.FINISHED
    assert over(forge, waiting) is RunState.FINISHED


@pytest.mark.parametrize(
    ("case", "what"),
    [
        ("key", "The host key of 127.0.0.1 is not known here."),
        ("port", "127.0.0.1 does not answer"),
        ("python", "is not found on 127.0.0.1"),
        ("user", "does not accept a key"),
    ],
)
def test_what_hinders_a_run_is_named_before_anything_is_submitted(
    quick_forge, quick_options, recipe, sshd, tmp_path, case, what
):
    forge, options = quick_forge, quick_options
    address = sshd.address
    if case == "key":
        (sshd.folder / "empty").write_text("")
        options["ssh_config"] = str(sshd.client_config("empty"))
    elif case == "port":
        address = "127.0.0.1:1"
    elif case == "python":
        options["environment"] = "/no/python"
    else:
        address = f"no-such-user@{address}"
    forge.targets.add("other", f"ssh:{address}{tmp_path / 'other'}", options=options)
    found = forge.targets.check("other")
    assert not found.usable
    assert what in found.problems[0].sentence
    assert found.problems[0].remedy
    with pytest.raises(ConfigError, match="modelforge targets check other"):
        forge.runs.start(Layer("body", recipe), on="other")
    assert forge.history.page().rows == []
    assert not (tmp_path / "other" / "jobs").exists()


@pytest.mark.slow
def test_a_target_that_has_gone_fails_the_run_with_its_cause(quick_forge, quick_host, recipe):
    forge = quick_forge
    known = json.loads(forge.home.targets.read_text())
    known["targets"][0]["address"] = "127.0.0.1:1"
    forge.home.targets.write_text(json.dumps(known))
    run_id = forge.runs.start(Layer("body", recipe), on=quick_host)
    assert over(forge, run_id) is RunState.FAILED
    cause = forge.diagnosis.cause(run_id)
    assert "127.0.0.1 does not answer" in cause.what
    assert read_launch(forge.runs.folder(run_id).launch).submitted is None


@pytest.mark.parametrize(
    "address", ["-oProxyCommand=x", "host;true", "host name", "host:99999", "$(id)", "a@-b"]
)
def test_an_address_is_a_host_and_nothing_else(address):
    with pytest.raises(ConfigError, match="is not the address of a computer"):
        open_launcher(Target("box", "ssh", address))


@pytest.mark.torch
@pytest.mark.slow
def test_the_real_worker_trains_there_to_its_end(forge, host, real_recipe):
    run_id = started(forge, real_recipe | {"max_steps": 2}, host)
    folder = forge.runs.folder(run_id)
    assert over(forge, run_id) is RunState.FINISHED, folder.log.read_text()[-2000:]
    assert folder.has_adapter
    config = find_json(folder.output / "adapter_config.json")
    assert config["base_model_name_or_path"] == real_recipe["model_name"]


@pytest.mark.torch
@pytest.mark.slow
def test_the_real_worker_interrupted_there_and_finished_here_has_the_same_bytes(
    forge, host, real_recipe, tmp_path
):
    whole_id = forge.runs.start(Layer("body", real_recipe))
    assert over(forge, whole_id) is RunState.FINISHED
    run_id = started(forge, real_recipe, host)
    stepped(forge, run_id, 4)
    worker(tmp_path).kill()
    assert over(forge, run_id) is RunState.LOST
    forge.resume.resume(run_id, on="here")
    assert over(forge, run_id) is RunState.FINISHED
    name = "adapter_model.safetensors"
    folders = [forge.runs.folder(each).output / name for each in (whole_id, run_id)]
    assert folders[0].read_bytes() == folders[1].read_bytes()
