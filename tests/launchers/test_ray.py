"""Runs on a Ray cluster: a stand-in for its dashboard, and a real one where `ray` is installed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from modelforge.config.resolve import Layer
from modelforge.errors import ConfigError, NotFoundError
from modelforge.forge import Forge
from modelforge.launchers import ray
from modelforge.launchers.far import MAX_READ_BYTES
from modelforge.launchers.far_parts import PART_BYTES
from modelforge.launchers.launcher import open_launcher
from modelforge.runs.events import iter_events
from modelforge.runs.process.launch import Target, read_launch
from modelforge.runs.states import RunState, read_facts
from modelforge.services.sweeps import service as sweeps
from modelforge.services.sweeps.space import read_dimensions
from modelforge.services.sweeps.study import SPREAD_TRIALS
from tests.launchers.conftest import adapter, over, stand_in_python, started, stepped, until, whole

STAND_IN = Path(__file__).parent / "ray_stand_in.py"
RAY = os.environ.get("MODELFORGE_RAY") or shutil.which("ray")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Dashboard:
    """The stand-in, which may be ended and started again; its jobs go on meanwhile."""

    def __init__(self, folder: Path, token: str = "") -> None:
        self.folder, self.port, self.token = folder, free_port(), token
        self.start()

    def start(self) -> None:
        call = [sys.executable, str(STAND_IN), str(self.folder), str(self.port)]
        self.process = subprocess.Popen([*call, *([self.token] if self.token else [])])
        until(self.answers, "the dashboard answers", 20)

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def jobs(self, run_id: str) -> list[Path]:
        """Return the requests of the jobs that train a run."""
        return [path for path in self.folder.glob("*.json") if path.name.startswith(run_id)]


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[Dashboard]:
    made = Dashboard(tmp_path / "ray")
    yield made
    made.process.kill()
    made.process.wait()


def add(forge: Forge, tmp_path: Path, address: str, **options: str) -> str:
    python = options.pop("environment", str(stand_in_python(tmp_path / "python-there")))
    options |= {"environment": python, "home": str(tmp_path / "far"), "python": sys.executable}
    forge.targets.add("cluster", address, options=options)
    return "cluster"


@pytest.fixture
def target(quick_forge: Forge, dashboard: Dashboard, tmp_path: Path) -> str:
    name = add(quick_forge, tmp_path, f"ray://127.0.0.1:{dashboard.port}")
    found = quick_forge.targets.check(name)
    assert found.problems == []
    assert found.hardware
    return name


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    """A file; while it exists a run there waits at step 5."""
    path = tmp_path / "far" / "hold"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return path


def test_a_run_on_a_cluster_is_brought_home(quick_forge, target, recipe, tmp_path):
    run_id = started(quick_forge, recipe, target)
    folder = quick_forge.runs.folder(run_id)
    assert over(quick_forge, run_id) is RunState.FINISHED, folder.relay_log.read_text()
    far = tmp_path / "far" / "runs" / run_id
    assert folder.events.read_bytes() == (far / "events.jsonl").read_bytes()
    assert "the worker begins" in folder.log.read_text()
    assert adapter(folder) == whole(quick_forge, recipe)
    assert not folder.checkpoints.exists(), "those of a finished run stay there"


def test_a_stop_there_resumes_here_to_the_same_bytes(quick_forge, target, recipe, hold):
    run_id = started(quick_forge, recipe, target)
    stepped(quick_forge, run_id, 2)
    quick_forge.runs.stop(run_id)
    assert over(quick_forge, run_id) is RunState.STOPPED
    folder = quick_forge.runs.folder(run_id)
    quick_forge.resume.resume(run_id, on="here")
    assert over(quick_forge, run_id) is RunState.FINISHED
    assert adapter(folder) == whole(quick_forge, recipe)


def test_a_stop_there_goes_on_here_by_the_queue(quick_forge, target, recipe, hold):
    run_id = started(quick_forge, recipe, target)
    stepped(quick_forge, run_id, 2)
    quick_forge.runs.stop(run_id)
    assert over(quick_forge, run_id) is RunState.STOPPED
    with pytest.raises(NotFoundError, match="There is no target 'nowhere'"):
        quick_forge.queue.add_resume(run_id, on="nowhere")
    quick_forge.queue.add_resume(run_id, on="here")
    (queued,) = quick_forge.queue.view().runs
    assert (queued.run, queued.target) == (run_id, "")
    until(
        lambda: quick_forge.tend() or quick_forge.runs.state(run_id) is RunState.FINISHED,
        "it has finished here",
    )
    assert adapter(quick_forge.runs.folder(run_id)) == whole(quick_forge, recipe)


def test_a_killed_relay_finds_its_job_again(quick_forge, target, recipe, hold, dashboard):
    run_id = started(quick_forge, recipe, target)
    folder = quick_forge.runs.folder(run_id)
    stepped(quick_forge, run_id, 2)
    who = read_facts(folder).process
    os.kill(who.pid, signal.SIGKILL)
    until(lambda: not who.alive, "the relay is dead")
    hold.unlink()
    assert over(quick_forge, run_id) is RunState.FINISHED
    assert len(dashboard.jobs(run_id)) == 1, "it was submitted once"
    assert adapter(folder) == whole(quick_forge, recipe)


def test_a_job_that_vanishes_is_lost_with_its_cause(quick_forge, target, recipe, hold, dashboard):
    run_id = started(quick_forge, recipe, target)
    stepped(quick_forge, run_id, 2)
    # Another dashboard, which knows nothing of the job, as after a restart of the cluster.
    dashboard.process.kill()
    dashboard.process.wait()
    dashboard.start()
    assert over(quick_forge, run_id) is RunState.LOST
    launch = read_launch(quick_forge.runs.folder(run_id).launch)
    assert "does not know the job any more" in launch.what


def test_a_killed_job_is_lost_and_resumes_here(quick_forge, target, recipe, hold, dashboard):
    run_id = started(quick_forge, recipe, target)
    folder = quick_forge.runs.folder(run_id)
    stepped(quick_forge, run_id, 3)
    job = dashboard.jobs(run_id)[0].stem
    root = psutil.Process(int((dashboard.folder / f"{job}.pid").read_text()))
    for process in (*root.children(recursive=True), root):
        process.kill()
    assert over(quick_forge, run_id) is RunState.LOST
    assert "Ray says: Job entrypoint command failed" in read_launch(folder.launch).what
    quick_forge.resume.resume(run_id, on="here")
    assert over(quick_forge, run_id) is RunState.FINISHED
    assert adapter(folder) == whole(quick_forge, recipe)


def test_a_job_that_waits_says_so_and_is_stopped(quick_forge, target, recipe, dashboard):
    (dashboard.folder / "full").touch()
    run_id = started(quick_forge, recipe, target)
    folder = quick_forge.runs.folder(run_id)
    until(lambda: "free node" in read_launch(folder.launch).note, "it waits for a node")
    quick_forge.runs.stop(run_id)
    assert over(quick_forge, run_id) is RunState.STOPPED
    assert not (folder.events.exists() and folder.events.stat().st_size)


def test_trials_of_a_sweep_train_here_and_there_at_the_same_time(
    quick_forge, target, recipe, monkeypatch
):
    pytest.importorskip("optuna")
    monkeypatch.setattr(sweeps, "TEND_S", 0.0)
    asked = recipe | {"max_steps": 16, "learning_rate": 2e-5}
    rates = read_dimensions(["learning_rate=1e-5..1e-3"])
    sweep = quick_forge.sweeps.start(
        Layer("body", asked), dimensions=rates, budget_s=36_000.0, on=["here", target]
    )
    together = set()

    def later_trials():
        quick_forge.tend()
        view = quick_forge.sweeps.view(sweep)
        begun = [each for each in view.trials if each.is_running and each.run]
        active = (each.on for each in begun if quick_forge.runs.state(each.run).is_active)
        together.add(frozenset(active))
        return len(view.trials) > SPREAD_TRIALS + 1

    until(later_trials, "trials have been compared in rounds")
    assert frozenset({"here", target}) in together
    trials = quick_forge.sweeps.view(sweep).trials
    early = sorted(trials[1 : SPREAD_TRIALS + 1], key=lambda each: each.losses[2])
    # The stand-in may have come to its end before a request to pause.
    assert any(each.until for each in early[:3])
    assert not any(each.until for each in early[3:])
    assert {each.on for each in trials} == {"here", target}
    # A trial that goes on at another place goes on where it was.
    for each in early:
        steps = [
            event.data["step"]
            for event in iter_events(quick_forge.runs.folder(each.run).events)
            if event.kind == "step"
        ]
        assert steps == list(range(1, steps[-1] + 1))
    quick_forge.sweeps.stop(sweep)
    until(lambda: quick_forge.tend() or not quick_forge.queue.view().runs, "nothing waits")


def test_a_sweep_at_targets_that_were_removed_says_so(quick_forge, target, recipe, monkeypatch):
    pytest.importorskip("optuna")
    monkeypatch.setattr(sweeps, "TEND_S", 0.0)
    rates = read_dimensions(["learning_rate=1e-5..1e-3"])
    sweep = quick_forge.sweeps.start(
        Layer("body", recipe), dimensions=rates, budget_s=36_000.0, on=[target]
    )
    quick_forge.targets.remove(target)
    until(lambda: quick_forge.tend() or quick_forge.sweeps.view(sweep).is_over, "it is over")
    view = quick_forge.sweeps.view(sweep)
    assert [each.state for each in view.trials] == ["fail"]
    assert f"There is no target '{target}'" in view.result["sentence"]


def test_places_that_would_not_train_the_same_are_refused(quick_forge, target, recipe):
    pytest.importorskip("optuna")
    stored = json.loads(quick_forge.home.targets.read_text())
    gpu = {"index": 0, "total_gib": 24.0, "free_gib": 24.0, "compute_capability": [8, 6]}
    machine = stored["targets"][0]["machine"] | {"gpus": [gpu], "torch_cuda": "12.6"}
    stored["targets"][0]["machine"] = machine
    quick_forge.home.targets.write_text(json.dumps(stored))
    rates = read_dimensions(["learning_rate=1e-5..1e-3"])
    with pytest.raises(ConfigError, match="is cuda at cluster, and cpu at here"):
        quick_forge.sweeps.start(
            Layer("body", recipe), dimensions=rates, budget_s=36_000.0, on=["here", target]
        )
    assert quick_forge.sweeps.list() == []


def packages(dashboard: Dashboard) -> list[int]:
    return sorted(path.stat().st_mtime_ns for path in (dashboard.folder / "packages").iterdir())


def test_large_files_go_in_pieces(quick_forge, target, dashboard, monkeypatch, tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "weights").write_bytes(os.urandom(5000))
    launcher = open_launcher(quick_forge.targets.get(target).target)
    monkeypatch.setattr(ray, "PIECE_BYTES", 1000)
    brought = launcher._upload(folder)
    assert len(brought["py_modules"]) == 6
    # A second time nothing is sent.
    before = packages(dashboard)
    assert launcher._upload(folder) == brought
    assert packages(dashboard) == before


def test_what_is_too_much_is_refused_with_the_bound(quick_forge, target, monkeypatch, tmp_path):
    monkeypatch.setattr(ray, "MAX_BYTES", 10)
    launcher = open_launcher(quick_forge.targets.get(target).target)
    with pytest.raises(ConfigError, match="a Ray cluster takes 10 B"):
        launcher._upload(tmp_path / "tiny")


def test_a_cluster_that_does_not_answer_is_named(quick_forge, tmp_path):
    name = add(quick_forge, tmp_path, f"ray:127.0.0.1:{free_port()}")
    (problem,) = quick_forge.targets.check(name).problems
    assert "does not answer" in problem.what


def test_a_token_is_asked_for_and_sent_but_never_stored(quick_forge, tmp_path, monkeypatch):
    dashboard = Dashboard(tmp_path / "ray", token="s3cret-token")
    try:
        name = add(quick_forge, tmp_path, f"ray:http://127.0.0.1:{dashboard.port}")
        (problem,) = quick_forge.targets.check(name).problems
        assert "refuses the access (401)" in problem.what
        assert ray.TOKEN in problem.remedy
        monkeypatch.setenv(ray.TOKEN, "s3cret-token")
        assert quick_forge.targets.check(name).problems == []
    finally:
        dashboard.process.kill()
        dashboard.process.wait()
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".whl"]
    assert not [path for path in written if b"s3cret-token" in path.read_bytes()]


def test_another_environment_is_refused_with_the_versions(quick_forge, dashboard, tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    address = f"ray:127.0.0.1:{dashboard.port}"
    name = add(quick_forge, tmp_path, address, environment=str(bare / "bin" / "python"))
    (problem,) = quick_forge.targets.check(name).problems
    assert "torch missing instead of" in problem.what


@pytest.mark.parametrize(
    "address", ["", "http://", "ftp://host:1", "host:99999", "me@host:8265", "host:port"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ConfigError, match="not the address of a Ray cluster"):
        open_launcher(Target("cluster", "ray", address))


def test_the_port_of_ray_client_stands_for_the_dashboard():
    launcher = ray.open_target(Target("cluster", "ray", "host:10001"))
    assert launcher._address == "http://host:8265"


def test_a_file_is_followed_over_its_parts(quick_forge, target, dashboard):
    launcher = open_launcher(quick_forge.targets.get(target).target)
    folder = dashboard.folder / "logs" / "modelforge-r" / ".parts"
    folder.mkdir(parents=True)
    data = bytes(range(256)) * (PART_BYTES // 256 * 2 + 99)
    for number, start in enumerate(range(0, len(data), PART_BYTES)):
        (folder / f"log-{number}").write_bytes(data[start : start + PART_BYTES])
    for offset in (0, 5, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, len(data)):
        assert launcher._read("node-1", "r", "log", offset) == data[offset:]
    # A long file comes in several reads.
    most = MAX_READ_BYTES // PART_BYTES
    for number in range(most + 2):
        (folder / f"log-{number}").write_bytes(bytes([number]) * PART_BYTES)
    read = launcher._read("node-1", "r", "log", 7)
    assert len(read) == (most + 1) * PART_BYTES - 7
    assert read[-1] == most


# A real cluster


class RealCluster:
    """A Ray cluster on this computer, whose head has four CPUs.

    `address` is that of a target, and `python` has ray.
    """

    def __init__(self) -> None:
        self.folder = f"/tmp/mf-ray-{os.getpid()}"  # short: sockets are in it
        self._port, dashboard = free_port(), free_port()
        self.address, self.python = f"ray:127.0.0.1:{dashboard}", str(Path(RAY).with_name("python"))
        head = ["--head", f"--port={self._port}", f"--temp-dir={self.folder}", "--num-cpus=4",
                f"--dashboard-port={dashboard}", "--disable-usage-stats"]  # fmt: skip
        subprocess.run(self._call(*head), check=True, stdout=subprocess.DEVNULL, timeout=300)

    def add_node(self) -> psutil.Popen:
        """Start another node with two CPUs; return the process whose children are all of it."""
        call = self._call(f"--address=127.0.0.1:{self._port}", "--num-cpus=2", "--block")
        return psutil.Popen(call, stdout=subprocess.DEVNULL)

    def _call(self, *arguments: str) -> list[str]:
        names = ("dashboard-agent-grpc-port", "dashboard-agent-listen-port",
                 "metrics-export-port", "runtime-env-agent-port")  # fmt: skip
        ports = [f"--{name}={free_port()}" for name in names]
        return [RAY, "start", "--object-store-memory=100000000", *ports, *arguments]

    def end(self) -> None:
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or ()
            if any(self.folder in word or f":{self._port}" in word for word in words):
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def real_cluster() -> Iterator[RealCluster]:
    """A Ray cluster of this test's own."""
    if RAY is None:
        pytest.skip("ray is not installed; MODELFORGE_RAY may name its program")
    cluster = RealCluster()
    yield cluster
    cluster.end()


def add_real(forge: Forge, cluster: RealCluster, tmp_path: Path, **options: str) -> None:
    """Add a real cluster as a target, and check it."""
    options |= {"environment": sys.executable, "python": cluster.python}
    forge.targets.add("cluster", cluster.address, options=options | {"home": str(tmp_path / "far")})
    assert forge.targets.check("cluster").problems == []


@pytest.mark.slow
@pytest.mark.torch
def test_a_real_cluster_trains_on_two_workers(real_cluster, forge, real_recipe, tmp_path):
    add_real(forge, real_cluster, tmp_path)
    hardware: dict[str, Any] = {"device": "cpu", "gpus": 2, "sharding": "ddp"}
    run_id = forge.runs.start(Layer("body", real_recipe | {"hardware": hardware}), on="cluster")
    folder = forge.runs.folder(run_id)
    assert over(forge, run_id) is RunState.FINISHED, folder.relay_log.read_text()
    assert json.loads(folder.config.read_text())["plan"]["ranks"] == 2
    assert folder.has_adapter
    assert forge.runs.view(run_id).step == 12


@pytest.mark.slow
@pytest.mark.torch
def test_a_run_stopped_on_a_real_cluster_finishes_here_to_the_same_bytes(
    real_cluster, forge, real_recipe, tmp_path
):
    add_real(forge, real_cluster, tmp_path)
    longer = real_recipe | {"max_steps": 120}
    run_id = forge.runs.start(Layer("body", longer), on="cluster")
    stepped(forge, run_id, 4)
    relay = read_facts(forge.runs.folder(run_id)).process
    os.kill(relay.pid, signal.SIGKILL)
    forge.runs.stop(run_id)
    assert over(forge, run_id) is RunState.STOPPED
    assert forge.runs.view(run_id).step < 120
    forge.resume.resume(run_id, on="here")
    assert over(forge, run_id) is RunState.FINISHED
    reference = forge.runs.start(Layer("body", longer))
    assert over(forge, reference) is RunState.FINISHED
    weights = [
        (forge.runs.folder(each).output / "adapter_model.safetensors").read_bytes()
        for each in (run_id, reference)
    ]
    assert weights[0] == weights[1]
