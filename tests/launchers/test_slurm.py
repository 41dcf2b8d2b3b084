"""Runs on a cluster of stand-in programs that really run jobs."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import pytest

from modelforge.launchers.slurm import open_target
from modelforge.runs.checkpoints import newest_valid
from modelforge.runs.process.launch import Launch, Target, read_launch, write_launch
from modelforge.runs.states import RunState, read_facts
from tests.launchers.conftest import adapter, over, started, stepped, until, whole


def jobs(cluster, name=""):
    read = [json.loads(path.read_text()) for path in sorted(cluster.glob("*.job"))]
    return [job for job in read if job["name"].startswith(name) and job["name"][0].isdigit()]


def test_a_run_waits_in_the_queue_of_the_cluster_and_comes_home(
    quick_forge, quick_cluster, cluster, recipe
):
    forge = quick_forge
    (cluster / "full").touch()
    run_id = started(forge, recipe, quick_cluster)
    folder = forge.runs.folder(run_id)
    until(lambda: "Resources" in read_launch(folder.launch).note, "it waits, with the reason")
    assert forge.runs.state(run_id) is RunState.STARTING
    # The number is not recorded yet when the relay is killed.
    launch = read_launch(folder.launch)
    who = read_facts(folder).process
    os.kill(who.pid, signal.SIGKILL)
    until(lambda: not who.alive, "the relay is dead")
    write_launch(folder.launch, launch.changed(id=""))
    (cluster / "full").unlink()
    assert over(forge, run_id) is RunState.FINISHED, folder.relay_log.read_text()
    assert [job["name"] for job in jobs(cluster)] == [launch.job]
    assert read_launch(folder.launch).id == launch.id
    assert adapter(folder) == whole(forge, recipe)


@pytest.mark.slow
def test_a_stop_reaches_the_job_and_a_cancelled_one_is_lost_and_resumed(
    quick_forge, quick_cluster, cluster, recipe, tmp_path
):
    forge = quick_forge
    hold = tmp_path / "shared" / "hold"
    hold.touch()
    run_id = started(forge, recipe, quick_cluster)
    folder = forge.runs.folder(run_id)
    stepped(forge, run_id, 5)
    os.killpg(jobs(cluster)[0]["pid"], signal.SIGKILL)
    assert over(forge, run_id) is RunState.LOST
    assert newest_valid(folder)[0].step == 5
    forge.resume.resume(run_id)
    until(lambda: forge.runs.events(run_id)[0][-1].kind == "plan", "it has resumed there")
    forge.runs.stop(run_id)
    assert over(forge, run_id) is RunState.STOPPED
    forge.resume.resume(run_id, on="here")
    assert over(forge, run_id) is RunState.FINISHED
    assert len(jobs(cluster)) == 2
    assert adapter(folder) == whole(forge, recipe)


@pytest.mark.slow
def test_a_job_that_waits_is_cancelled_by_a_stop(quick_forge, quick_cluster, cluster, recipe):
    forge = quick_forge
    (cluster / "full").touch()
    run_id = started(forge, recipe, quick_cluster)
    until(lambda: read_launch(forge.runs.folder(run_id).launch).id, "it is submitted")
    forge.runs.stop(run_id)
    assert over(forge, run_id) is RunState.STOPPED
    assert [job["state"] for job in jobs(cluster)] == ["CANCELLED"]


def calls(cluster):
    return (cluster / "calls").read_text().split().count("squeue")


def test_slurm_is_asked_about_a_job_that_writes_nothing_only(cluster, tmp_path):
    launcher = open_target(Target("grid", "slurm", f"debug{tmp_path}/shared"))
    folder = tmp_path / "shared" / "runs" / "r1"
    folder.mkdir(parents=True)
    events, job = folder / "events.jsonl", {"id": "1", "name": "r1-1", "pid": None}
    (cluster / "calls").touch()
    launch = Launch(Target("grid", "slurm", "debug"), "r1-1", "1", home=f"{tmp_path}/shared")
    for number in range(1, 4):
        events.write_bytes(b"line\n" * number)
        seen = launcher.poll(launch, "r1", 0, 0)
        assert (seen.state, seen.events) == ("running", b"line\n" * number)
    assert calls(cluster) == 0
    for slurm, state in (("PENDING", "waiting"), ("RUNNING", "running"), ("COMPLETED", "ended")):
        (cluster / "1.job").write_text(json.dumps(job | {"state": slurm}))
        seen = launcher.poll(launch, "r1", 5, 0)
        assert (seen.state, seen.events) == (state, b"line\n" * 2)
    assert calls(cluster) == 3


def test_a_job_that_waits_is_looked_at_ever_more_rarely(
    quick_forge, quick_cluster, cluster, recipe
):
    forge = quick_forge
    (cluster / "full").touch()
    run_id = started(forge, recipe, quick_cluster)
    launch = forge.runs.folder(run_id).launch
    until(lambda: "Resources" in read_launch(launch).note, "it waits")
    before = calls(cluster)
    time.sleep(5.0)
    # After 2 and 6 seconds.
    assert calls(cluster) - before <= 2
    forge.runs.stop(run_id)
    assert over(forge, run_id) is RunState.STOPPED


def test_a_limit_of_the_queue_is_named_and_nothing_is_submitted(
    quick_forge, quick_cluster, cluster, recipe
):
    forge = quick_forge
    (cluster / "refuse").touch()
    run_id = started(forge, recipe, quick_cluster)
    assert over(forge, run_id) is RunState.FAILED
    assert "QOSMaxSubmitJobPerUserLimit" in forge.diagnosis.cause(run_id).what
    assert jobs(cluster) == []


@pytest.mark.torch
@pytest.mark.slow
def test_the_real_worker_trains_on_the_cluster(forge, cluster, real_recipe, tmp_path):

    place = f"slurm:debug{tmp_path / 'shared'}"
    forge.targets.add("grid", place, options={"environment": sys.executable})
    assert forge.targets.check("grid").problems == []
    run_id = started(forge, real_recipe, "grid")
    folder = forge.runs.folder(run_id)
    assert over(forge, run_id) is RunState.FINISHED, folder.log.read_text()[-2000:]
    assert folder.has_adapter
