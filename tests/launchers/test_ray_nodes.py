"""Several nodes of a Ray cluster for one run: what is refused, and a cluster of a stand-in."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from modelforge.config.resolve import Layer
from modelforge.errors import BlockedError, ConfigError
from modelforge.hardware.nvidia import Gpu
from modelforge.launchers import far_nodes
from modelforge.launchers.launcher import open_launcher
from modelforge.launchers.ray_nodes import far_problems, machine_of, nodes_of, read_nodes
from modelforge.runs.events import read_events
from modelforge.runs.process.launch import Target
from modelforge.runs.states import RunState, read_facts
from tests.launchers.conftest import over, started, stepped, until
from tests.launchers.test_ray import (
    Dashboard,
    RealCluster,
    add,
    real_cluster,  # noqa: F401  # a fixture
)
from tests.preflight.contexts import LAPTOP, WORKSTATION

CLUSTER_PYTHON = Path(__file__).parent / "cluster_python"
TWO = [{"name": "a", "CPU": 4}, {"name": "b", "CPU": 4}]
# The worker of a run: it makes the folder of the reports, and ends with what is written there.
WORKER = """
import json, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
folder.mkdir(parents=True)
while not (folder / "lost.json").exists():
    time.sleep(0.05)
print(json.loads((folder / "lost.json").read_text())["what"], flush=True)
time.sleep(float(sys.argv[2]))
"""

Says = Callable[[list[dict[str, Any]]], None]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Says]:
    """Set the nodes of the cluster."""
    path = tmp_path / "nodes.json"
    monkeypatch.setenv("RAY_NODES", str(path))
    monkeypatch.syspath_prepend(str(CLUSTER_PYTHON))
    yield lambda nodes: path.write_text(json.dumps(nodes)) and None
    for name in [name for name in sys.modules if name.partition(".")[0] == "ray"]:
        del sys.modules[name]


# What is refused


@pytest.mark.parametrize("text", ["0", "-1", "65", "2.5", "two", "", "9" * 5000, "²"])
def test_what_is_no_number_of_nodes_is_refused(text):
    with pytest.raises(ConfigError, match="whole number from 1 to 64"):
        open_launcher(Target("c", "ray", "host:8265", options={"nodes": text, "home": "/disk"}))


def test_several_nodes_need_a_home_that_they_share():
    with pytest.raises(ConfigError, match="on a disk that they share"):
        open_launcher(Target("c", "ray", "host:8265", options={"nodes": "2"}))
    assert read_nodes({"nodes": "1"}) == read_nodes({}) == 1
    assert read_nodes({"nodes": "64", "home": "/disk"}) == 64


def test_the_processes_of_a_run_are_shared_by_the_nodes():
    assert nodes_of({"ranks": 8, "device": "cuda"}, 2) == (2, 4)
    assert nodes_of({"ranks": 8, "device": "cpu"}, 4) == (4, 0)
    assert nodes_of({"ranks": 1, "device": "cuda"}, 4) == (1, 1), "one process uses one node"
    for ranks, nodes in ((3, 2), (2, 4)):
        with pytest.raises(ConfigError, match=f"{nodes} nodes cannot share {ranks} GPUs equally"):
            nodes_of({"ranks": ranks, "device": "cuda"}, nodes)


def planned_for(forge: Any, tmp_path: Path, address: str, nodes: int) -> str:
    """Add a target of several nodes whose hardware is known."""
    name = add(forge, tmp_path, address, nodes=str(nodes))
    known = replace(forge.targets.get(name), machine=replace(LAPTOP, nodes=nodes), checked=1.0)
    forge.targets._write([known])
    return name


def test_a_run_that_nodes_cannot_share_is_refused_before_it_is_made(quick_forge, recipe, tmp_path):
    name = planned_for(quick_forge, tmp_path, "ray:127.0.0.1:1", 2)
    assert quick_forge.targets.get(name).hardware.startswith("2 nodes: ")
    rows = {"gradient_accumulation_steps": 3, "per_device_train_batch_size": 4}
    uneven = recipe | rows | {"hardware": {"device": "cpu", "gpus": 3}}
    with pytest.raises(BlockedError) as caught:
        started(quick_forge, uneven, name)
    (finding,) = [each for each in caught.value.findings if each.level == "blocker"]
    assert finding.code == "nodes-not-filled"
    assert "3 GPUs" in finding.what
    assert "2 nodes" in finding.what
    assert finding.suggested == 4
    assert not list(quick_forge.home.runs.glob("2*"))


# The answers of the nodes


def there(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    about = {"is_supported": True, "disk_free": 2**40, "differing": [], "home": "/disk"}
    return about | {"nodes": nodes, "machine": asdict(LAPTOP)}


def test_problems_name_the_node():
    fine = {"name": "a (10.0.0.1)", "gpus": 0, "machine": asdict(LAPTOP)}
    assert far_problems(there([fine, fine]), 2) == []
    (few,) = far_problems(there([fine]), 2)
    assert few.where == "nodes"
    assert few.what == "The cluster has 1 node alive; 2 are needed."
    elsewhere = {"name": "b (10.0.0.2)", "gpus": 0, "is_elsewhere": True}
    broken = {"name": "c (10.0.0.3)", "gpus": 0, "problem": "No module named 'torch'"}
    first, second = far_problems(there([fine, elsewhere, broken]), 2)
    assert first.sentence == ("node b (10.0.0.2) does not see the folder /disk of the other nodes.")
    assert "disk that all nodes share" in first.remedy
    assert second.sentence == (
        "node c (10.0.0.3) cannot do a part of a run: No module named 'torch'."
    )


def test_runs_are_planned_for_the_gpus_of_all_nodes_and_the_memory_of_one():
    def node(gpus: int, total_gib: float, ram_gib: float, given: int = 9) -> dict[str, Any]:
        found = [Gpu(index, "H200", total_gib) for index in range(gpus)]
        machine = replace(WORKSTATION, gpus=found, ram_total_gib=ram_gib)
        return {"name": "n", "gpus": given, "machine": json.loads(json.dumps(asdict(machine)))}

    found = machine_of(there([node(4, 80, 500), node(1, 80, 9), node(8, 40, 900, given=3)]), 2)
    assert found.nodes == 2
    assert [gpu.index for gpu in found.gpus] == list(range(6))
    assert [gpu.total_gib for gpu in found.gpus] == [40.0] * 3 + [80.0] * 3
    assert found.ram_total_gib == 500
    assert machine_of(there([]), 1).nodes == 1


# The program on the nodes


def test_each_node_that_could_train_is_asked(says, tmp_path):
    says([
        {"name": "head", "CPU": 8},
        {"name": "a", "CPU": 8, "GPU": 4},
        {"name": "b", "CPU": 8, "GPU": 4, "is_elsewhere": True},
        {"name": "c", "CPU": 8, "GPU": 4, "has_no_python": True},
        {"name": "gone", "CPU": 8, "GPU": 4, "alive": False},
    ])  # fmt: skip
    code = "import json, os; print(json.dumps({'path': os.environ['PYTHONPATH']}))"
    command = [sys.executable, "-c", code]
    a, b, c = far_nodes.check(str(tmp_path), command, "/code")
    assert a == {"name": "a (10.0.0.2)", "gpus": 4, "machine": {"path": "/code"}}
    assert b == {"name": "b (10.0.0.3)", "gpus": 4, "is_elsewhere": True}
    assert "FileNotFoundError" in c["problem"]
    assert not list(tmp_path.glob(".seen-*"))
    says([{"name": "head"}, {"name": "idle"}, TWO[1]])
    names = [each["name"] for each in far_nodes.check(str(tmp_path), command, "")]
    assert names == ["head (10.0.0.1)", "b (10.0.0.3)"]
    failing = [sys.executable, "-c", "raise SystemExit('ModuleNotFoundError: no torch')"]
    assert far_nodes.check(str(tmp_path), failing, "/code")[0]["problem"].endswith("no torch")


def test_a_node_that_does_not_answer_is_named(says, tmp_path, monkeypatch):
    monkeypatch.setattr(far_nodes, "CHECK_S", 0.5)
    says([TWO[0] | {"hangs": True}])
    (found,) = far_nodes.check(str(tmp_path), [sys.executable, "-c", "print({})"], "")
    assert "has not answered" in found["problem"]


def test_a_python_without_ray_is_named(tmp_path):
    with pytest.raises(ValueError, match="name that of the cluster with python=PATH"):
        far_nodes.check(str(tmp_path), [], "")


def ended(folder: Path, part: list[str], lingers_s: float = 0.0) -> tuple[str, int]:
    """Watch a run of two nodes to its end; return the last words of its worker, and its code."""
    others = far_nodes.OtherNodes(2, 0, folder, part, "/code")
    reports = folder / "ranks" / json.loads(others.variables()["MODELFORGE_NODES"])["start"]
    command = [sys.executable, "-c", WORKER, str(reports), str(lingers_s)]
    deadline = time.monotonic() + 30
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        while worker.poll() is None:
            assert time.monotonic() < deadline
            others.look(worker)
            time.sleep(0.05)
        others.close()
        assert worker.stdout
        return worker.stdout.read().strip(), worker.returncode


FAILS = [sys.executable, "-c", "import sys; print('no disk', file=sys.stderr); sys.exit(3)"]


def test_a_part_that_fails_ends_the_run_with_its_node_and_its_last_line(says, tmp_path):
    says(TWO)
    what, code = ended(tmp_path, FAILS)
    assert what == "Node 2 of the run, b (10.0.0.2), has ended: code 3. no disk"
    assert code == 0


def test_a_node_that_is_gone_ends_the_run(says, tmp_path):
    says([TWO[0], TWO[1] | {"crashes": True}])
    what, _code = ended(tmp_path, FAILS)
    assert what == "Node 2 of the run, b (10.0.0.2), has ended: The worker died unexpectedly."


def test_too_few_nodes_end_the_run_in_time(says, tmp_path, monkeypatch):
    monkeypatch.setattr(far_nodes, "JOIN_S", 0.3)
    says([TWO[0], TWO[1] | {"alive": False}])
    what, _code = ended(tmp_path, FAILS)
    assert what == (
        "The cluster has 1 node alive, and the run needs 2: they were not free within 0 s."
    )


@pytest.mark.parametrize(("grace_s", "code"), [(0.2, -15), (60.0, -9)])
def test_a_worker_that_does_not_end_is_ended(says, tmp_path, monkeypatch, grace_s, code):
    monkeypatch.setattr(far_nodes, "GRACE_S", grace_s)
    monkeypatch.setattr(far_nodes, "KILL_S", 0.5)
    says(TWO)
    assert ended(tmp_path, FAILS, lingers_s=60)[1] == code


def test_each_node_knows_its_number(says, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    says([TWO[0], *({"name": name, "CPU": 2, "GPU": 2} for name in "bc")])
    names = ["MODELFORGE_NODES", "OMP_NUM_THREADS", "PYTHONPATH"]
    code = (
        "import json, os, sys; about = json.loads(os.environ['MODELFORGE_NODES']); "
        f"known = {{name: os.environ[name] for name in {names}}}; "
        "open(sys.argv[1] + str(about['number']), 'w').write(json.dumps(known))"
    )
    part = [sys.executable, "-c", code, str(tmp_path / "node-")]
    others = far_nodes.OtherNodes(3, 2, tmp_path, part, "/code")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as worker:
        others.look(worker)
        others.close()
        others.look(worker)
    found = [json.loads((tmp_path / f"node-{number}").read_text()) for number in (1, 2)]
    abouts = [json.loads(each[names[0]]) for each in found]
    first = json.loads(others.variables()[names[0]])
    assert [first, *abouts] == [first | {"number": number} for number in range(3)]
    host, _, port = first["endpoint"].rpartition(":")
    assert host == "127.0.0.1"
    assert 1024 < int(port) < 65536
    assert {(each[names[1]], each[names[2]]) for each in found} == {("7", "/code")}


# Over the dashboard


@pytest.fixture
def dashboard(tmp_path: Path, says: Says, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dashboard]:
    says(TWO)
    monkeypatch.setenv("CLUSTER_PYTHON", str(CLUSTER_PYTHON))
    made = Dashboard(tmp_path / "ray")
    yield made
    made.process.kill()
    made.process.wait()


def test_a_run_is_sent_to_two_nodes(quick_forge, dashboard, recipe, tmp_path, says):
    name = add(quick_forge, tmp_path, f"ray:127.0.0.1:{dashboard.port}", nodes="2")
    assert quick_forge.targets.check(name).problems == []
    assert quick_forge.targets.get(name).machine.nodes == 2
    run_id = started(quick_forge, recipe | {"hardware": {"device": "cpu", "gpus": 2}}, name)
    folder = quick_forge.runs.folder(run_id)
    assert over(quick_forge, run_id) is RunState.FINISHED, folder.relay_log.read_text()
    run_there = tmp_path / "far" / "runs" / run_id
    about = json.loads((run_there / "node.txt").read_text())
    assert (about["count"], about["number"]) == (2, 1)
    alone = started(quick_forge, recipe, name)
    assert over(quick_forge, alone) is RunState.FINISHED
    assert not (tmp_path / "far" / "runs" / alone / "node.txt").exists()

    says([TWO[0], TWO[1] | {"is_elsewhere": True}])
    (problem,) = quick_forge.targets.check(name).problems
    assert problem.where == "node b (10.0.0.2)"
    says(TWO[:1])
    (problem,) = quick_forge.targets.check(name).problems
    assert problem.what == "The cluster has 1 node alive; 2 are needed."


# A real cluster


@pytest.fixture
def second_node(real_cluster: RealCluster) -> Iterator[psutil.Popen]:  # noqa: F811
    """A second node of the real cluster, which ends with the test."""
    node = real_cluster.add_node()
    yield node
    end_tree(node)


def end_tree(process: psutil.Popen) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in (*process.children(recursive=True), process):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait(60)


def ranks_of(node: psutil.Process) -> list[str]:
    """Return the numbers of the processes of a run on a node."""
    found = []
    for process in node.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "--rank" in process.cmdline():
                found.append(process.environ()["RANK"])
    return found


def checked_until_there(forge: Any, real: RealCluster, tmp_path: Path) -> None:
    options = {"environment": sys.executable, "python": real.python, "nodes": "2"}
    forge.targets.add("cluster", real.address, options=options | {"home": str(tmp_path / "far")})
    until(lambda: not forge.targets.check("cluster").problems, "two nodes are there", 60)


PAIR = {"hardware": {"device": "cpu", "gpus": 2}}


@pytest.mark.slow
@pytest.mark.torch
def test_a_run_on_two_real_nodes_is_stopped_and_resumed(
    real_cluster,  # noqa: F811
    second_node,
    forge,
    real_recipe,
    tmp_path,
):
    checked_until_there(forge, real_cluster, tmp_path)
    assert forge.targets.get("cluster").machine.nodes == 2
    run_id = forge.runs.start(Layer("body", real_recipe | PAIR | {"max_steps": 120}), on="cluster")
    folder = forge.runs.folder(run_id)
    stepped(forge, run_id, 4)
    assert ranks_of(second_node) == ["1"]
    relay = read_facts(folder).process
    os.kill(relay.pid, signal.SIGKILL)
    until(lambda: not relay.alive, "the relay is dead")
    forge.runs.stop(run_id)
    assert over(forge, run_id) is RunState.STOPPED, folder.relay_log.read_text()
    stopped_at = forge.runs.view(run_id).step
    assert 4 <= stopped_at < 120
    forge.resume.resume(run_id)
    assert over(forge, run_id) is RunState.FINISHED, folder.relay_log.read_text()
    assert forge.runs.view(run_id).step == 120
    assert folder.has_adapter
    assert ranks_of(second_node) == []


@pytest.mark.slow
@pytest.mark.torch
def test_a_real_node_that_dies_ends_the_run_which_resumes_here(
    real_cluster,  # noqa: F811
    second_node,
    forge,
    real_recipe,
    tmp_path,
):
    checked_until_there(forge, real_cluster, tmp_path)
    run_id = forge.runs.start(Layer("body", real_recipe | PAIR | {"max_steps": 200}), on="cluster")
    stepped(forge, run_id, 4)
    end_tree(second_node)
    assert over(forge, run_id) is RunState.FAILED
    failure = read_events(forge.runs.folder(run_id).events)[0][-1].data
    assert failure["cause"] == "node-lost"
    assert failure["what"].startswith("Node 2 of the run, ")
    few = "The cluster has 1 node alive; 2 are needed."
    # Ray notices the end of a node after a while.
    until(lambda: few in [p.what for p in forge.targets.check("cluster").problems], few, 60)
    forge.resume.resume(run_id, on="here")
    assert over(forge, run_id) is RunState.FINISHED
