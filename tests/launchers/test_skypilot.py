"""Runs on a cluster of SkyPilot: a stand-in for the program `sky`, and ssh to this computer."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from modelforge.errors import ConfigError
from modelforge.forge import Forge
from modelforge.launchers import skypilot
from modelforge.launchers.launcher import open_launcher
from modelforge.runs.process.launch import Target, read_launch
from modelforge.runs.states import RunState
from tests.launchers.conftest import (
    Sshd,
    adapter,
    over,
    stand_in_python,
    started,
    stepped,
    until,
    whole,
)

STAND_IN = Path(__file__).parent / "sky_stand_in.py"
CLUSTER = "modelforge-cloud"


@pytest.fixture
def sky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a cloud whose program is on the PATH."""
    folder, programs = tmp_path / "sky", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    program = programs / "sky"
    program.write_text(f"#!{sys.executable}\n" + STAND_IN.read_text("utf-8"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("SKY", str(folder))
    monkeypatch.setattr(skypilot, "ASK_S", 0.5)
    return folder


@pytest.fixture
def task(tmp_path: Path) -> Path:
    path = tmp_path / "gpu.yaml"
    path.write_text("resources:\n  accelerators: L4:1\nrun: echo of another program\n", "utf-8")
    return path


@pytest.fixture
def target(quick_forge: Forge, sky: Path, sshd: Sshd, task: Path, tmp_path: Path) -> str:
    """A target whose cluster is this computer, as SkyPilot's configuration of ssh says."""
    config = tmp_path / "ssh-config"
    config.write_text(
        f"Host {CLUSTER}\n  HostName 127.0.0.1\n  Port {sshd.port}\n"
        f"  UserKnownHostsFile {tmp_path / 'known'}\n{sshd.config.read_text('utf-8')}"
    )
    python = stand_in_python(tmp_path / "python-there")
    options = {
        "ssh_config": str(config),
        "environment": str(python),
        "idle_minutes": "7",
        "home": str(tmp_path / "far"),
    }
    quick_forge.targets.add("cloud", f"skypilot:{task}", options=options)
    found = quick_forge.targets.check("cloud")
    assert found.problems == []
    return "cloud"


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    """A file; while it exists a run there waits at step 5."""
    path = tmp_path / "far" / "hold"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return path


def test_a_run_on_a_cluster_is_brought_home(quick_forge, target, recipe, sky):
    run_id = started(quick_forge, recipe, target)
    folder = quick_forge.runs.folder(run_id)
    assert over(quick_forge, run_id) is RunState.FINISHED, folder.relay_log.read_text()
    assert adapter(folder) == whole(quick_forge, recipe)
    assert "the worker begins" in folder.log.read_text()
    cluster = json.loads((sky / "clusters.json").read_text())[CLUSTER]
    assert cluster["autostop"] == 7
    assert cluster["task"]["resources"] == {"accelerators": "L4:1"}
    assert "run" not in cluster["task"], "what another program runs is left out"
    assert [job["job_name"] for job in json.loads((sky / "jobs.json").read_text())] == [
        read_launch(folder.launch).job
    ]
    assert read_launch(folder.launch).cost.startswith("about $1.23")


def test_a_stop_there_resumes_here_to_the_same_bytes(quick_forge, target, recipe, hold):
    run_id = started(quick_forge, recipe, target)
    stepped(quick_forge, run_id, 2)
    quick_forge.runs.stop(run_id)
    assert over(quick_forge, run_id) is RunState.STOPPED
    quick_forge.resume.resume(run_id, on="here")
    assert over(quick_forge, run_id) is RunState.FINISHED
    assert adapter(quick_forge.runs.folder(run_id)) == whole(quick_forge, recipe)


def test_a_cluster_that_is_taken_back_loses_the_run_with_its_cause(
    quick_forge, target, recipe, hold, sky, monkeypatch
):
    run_id = started(quick_forge, recipe, target)
    folder = quick_forge.runs.folder(run_id)
    stepped(quick_forge, run_id, 1)
    (sky / "clusters.json").write_text("{}")
    (job,) = json.loads((sky / "jobs.json").read_text())
    os.killpg(job["pid"], signal.SIGKILL)
    assert over(quick_forge, run_id) is RunState.LOST
    assert f"The cluster {CLUSTER} was stopped, or is gone" in read_launch(folder.launch).what


def test_a_job_that_waits_is_cancelled(quick_forge, target, recipe, sky):
    (sky / "full").touch()
    run_id = started(quick_forge, recipe, target)
    folder = quick_forge.runs.folder(run_id)
    until(lambda: "queue of the cluster" in read_launch(folder.launch).note, "it waits")
    quick_forge.runs.stop(run_id)
    assert over(quick_forge, run_id) is RunState.STOPPED


def test_what_skypilot_refuses_is_passed_on(quick_forge, sky, task):
    (sky / "refuse").write_text("No cloud is enabled: run sky check\x1b[31m")
    quick_forge.targets.add("cloud", f"skypilot:{task}")
    (problem,) = quick_forge.targets.check("cloud").problems
    assert "No cloud is enabled: run sky check" in problem.what
    assert "\x1b" not in problem.what
    assert "sky check" in problem.remedy


def test_a_missing_program_is_named(quick_forge, task, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    quick_forge.targets.add("cloud", f"skypilot:{task}")
    (problem,) = quick_forge.targets.check("cloud").problems
    assert "SkyPilot is not installed" in problem.what
    assert "pip install" in problem.remedy


@pytest.mark.parametrize("text", [None, "- a list", "a: [", "just words"])
def test_a_file_that_is_no_task_is_named(quick_forge, sky, tmp_path, text):
    path = tmp_path / "task.yaml"
    if text is not None:
        path.write_text(text, "utf-8")
    quick_forge.targets.add("cloud", f"skypilot:{path}")
    (problem,) = quick_forge.targets.check("cloud").problems
    assert "cannot be used as a task" in problem.what


@pytest.mark.parametrize(
    "options", [{"idle_minutes": "0"}, {"idle_minutes": "x"}, {"cluster": "UP"}, {"cluster": "-x"}]
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError):
        open_launcher(Target("cloud", "skypilot", "gpu.yaml", options=options))
