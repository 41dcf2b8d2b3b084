"""Several nodes, here as processes of one computer, train one run together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from modelforge.modeling.errors import WorkerError
from modelforge.runs.event_types import FailedEvent
from modelforge.runs.events import EventWriter, read_events
from modelforge.runs.layout import RunFolder
from modelforge.train.ranks import nodes as nodes_module
from modelforge.train.ranks.nodes import VARIABLE, Nodes, interface_to
from modelforge.train.ranks.rank import event_file
from modelforge.train.stop import Stop, StopRequested

pytestmark = pytest.mark.torch
STEPS = {
    "max_steps": 20,
    "gradient_accumulation_steps": 4,
    "lora_dropout": 0.0,
    "learning_rate": 1e-3,
    "hardware": {"device": "cpu", "gpus": 2},
    "trainer": {"save_steps": 4, "save_total_limit": 5},
}
DEADLINE_S = 300


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path)
    folder.config.write_text("{}")
    return folder


@pytest.fixture
def first(run):
    nodes = Nodes(2, 0, "127.0.0.1:1", "a1")
    nodes.open(run)
    return nodes


@pytest.fixture
def second():
    return Nodes(2, 1, "127.0.0.1:1", "a1")


def never() -> bool:
    return False


def losses(run) -> dict[int, float]:
    """The last loss of each step: a resumed run does some steps again."""
    steps = [record.data for record in read_events(run.events)[0] if record.kind == "step"]
    return {data["step"]: data["loss"] for data in steps}


class Second:
    """The second of two nodes, which may be killed at a step."""

    def __init__(self, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        about = {"count": 2, "endpoint": f"127.0.0.1:{port}", "start": f"s{port}"}
        monkeypatch.setenv(VARIABLE, json.dumps(about | {"number": 0}))
        self._run = run
        self.ranks: list[psutil.Process] = []
        command = [sys.executable, "-m", "modelforge.train", str(run.path), "--node"]
        variables = os.environ | {VARIABLE: json.dumps(about | {"number": 1})}
        self.process = subprocess.Popen(command, env=variables, cwd=Path.cwd())

    def kill_at(self, step: int) -> None:
        threading.Thread(target=self._kill, args=[step], daemon=True).start()

    def _kill(self, step: int) -> None:
        while self.process.poll() is None and step not in losses(self._run):
            time.sleep(0.02)
        self.ranks = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()


def test_two_nodes_train_as_one_and_a_lost_one_is_named(bench, monkeypatch):
    monkeypatch.setattr(nodes_module, "END_S", 1.0)
    run = bench.prepare(**STEPS)
    second = Second(run, monkeypatch)
    second.kill_at(10)
    events = bench.work(run)
    assert events[-1].kind == "failed", events[-1].data
    assert events[-1].data["cause"] == "node-lost"
    name = socket.gethostname()
    assert events[-1].data["what"] == f"Node 2 of the run, {name}, has ended without a message."
    assert second.process.wait(30) == -signal.SIGKILL
    assert len(second.ranks) == 1
    assert not psutil.wait_procs(second.ranks, timeout=30)[1]
    assert not run.ranks.exists()
    of_two_nodes = losses(run)
    assert len(of_two_nodes) >= 10

    monkeypatch.delenv(VARIABLE)
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    (resumed,) = [record.data["step"] for record in events if record.kind == "resumed"]
    assert 8 <= resumed < 20, "from a checkpoint of the two nodes"
    alone = bench.prepare(**STEPS | {"hardware": {"device": "cpu"}})
    bench.work(alone)
    expected = losses(alone)
    assert of_two_nodes == pytest.approx({s: expected[s] for s in of_two_nodes}, abs=1e-4)
    assert losses(run) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_two_nodes_finish_with_the_losses_of_two_processes_and_stop_together(bench, monkeypatch):
    pair = bench.prepare(**STEPS)
    bench.work(pair)
    run = bench.prepare(**STEPS)
    second = Second(run, monkeypatch)
    assert bench.work(run)[-1].kind == "finished"
    assert second.process.wait(60) == 0
    assert losses(run) == pytest.approx(losses(pair), abs=1e-4)
    assert len(losses(run)) == 20

    stopped = bench.prepare(**STEPS | {"max_steps": 2000})
    second = Second(stopped, monkeypatch)

    def stop() -> None:
        while 3 not in losses(stopped):
            time.sleep(0.05)
        stopped.stop.write_text("keep")

    threading.Thread(target=stop, daemon=True).start()
    assert bench.work(stopped)[-1].kind == "stopped"
    assert second.process.wait(60) == 0


def test_one_node_reports_to_the_first_one(run, first, second):
    second.join(run)
    first.wait_for_others(run, never)
    second.end(run, {1: -9, 3: 1})
    assert first.exit_codes(run, never) == {1: -9, 3: 1}


def test_a_stop_ends_the_wait_for_other_nodes(run, first):
    run.stop.write_text("keep")
    with pytest.raises(StopRequested):
        first.wait_for_others(run, Stop(run.stop).check)


@pytest.mark.parametrize("waits", [True, False])
def test_why_a_node_is_lost_is_the_cause(run, first, second, waits):
    lost = {"what": "Node 2 of the run, b (10.0.0.2), has ended: code 3.", "remedy": "Resume it."}
    (run.ranks / first.start / "lost.json").write_text(json.dumps(lost))
    if not waits:
        second.join(run)
    look = first.wait_for_others if waits else first.exit_codes
    with pytest.raises(WorkerError, match="has ended: code 3") as caught:
        look(run, never)
    assert caught.value.cause == "node-lost"


def test_a_known_cause_waits_for_no_node(run, first, second):
    second.join(run)
    assert first.exit_codes(run, lambda: True) == {}


def test_a_node_that_does_not_come_is_named(run, first, monkeypatch):
    monkeypatch.setattr(nodes_module, "JOIN_S", 0.0)
    with pytest.raises(WorkerError, match="Node 2 of the run has not come within 0 s"):
        first.wait_for_others(run, lambda: None)


def test_a_node_that_sees_another_folder_says_so(run, second, monkeypatch):
    run.ranks.mkdir()
    (run.ranks / "of-an-earlier-start").mkdir()
    monkeypatch.setattr(nodes_module, "JOIN_S", 0.0)
    with pytest.raises(WorkerError, match="is not seen") as caught:
        second.join(run)
    assert "disk that they share" in caught.value.problems[0].remedy


def test_what_a_process_of_another_node_reports_is_the_cause(run, first, second):
    from modelforge.train.ranks.launch import _find_cause_on

    second.join(run)
    with EventWriter(event_file(run, 1)) as events:
        events.write(FailedEvent(cause="out-of-memory", what="It ran out.", remedy="Use less."))
    found = _find_cause_on(first, run, {0: 1})
    assert found.cause == "out-of-memory"
    assert found.what == "On GPU 2 of the run: It ran out."


def test_a_process_killed_on_another_node_is_the_cause(run, first, second, capsys):
    from modelforge.train.ranks.launch import _find_cause_on

    second.join(run)
    log = second.logs(run) / "x" / "attempt_0" / "0" / "stderr.log"
    log.parent.mkdir(parents=True)
    log.write_text("a last line\n")
    second.end(run, {1: -9})
    found = _find_cause_on(first, run, {0: 1})
    assert "The process of GPU 2 of the run ended by the signal SIGKILL" in found.what
    assert "node-2: a last line" in capsys.readouterr().err


def test_a_node_that_ends_after_the_first_one_leaves_nothing(run, second):
    second.end(run, {})
    assert not run.ranks.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only there an interface is chosen")
def test_nodes_send_through_the_interface_that_reaches_the_first_one(monkeypatch, first):
    assert interface_to("127.0.0.1") == "lo"
    assert interface_to("no-such-host.invalid") == ""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib0")
    monkeypatch.setattr(nodes_module, "interface_to", {"127.0.0.1": "eth7"}.get)
    first.choose_network()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7"
    assert os.environ["NCCL_SOCKET_IFNAME"] == "ib0", "what the cluster has set stays"
    Nodes().choose_network()
    assert os.environ["NCCL_SOCKET_IFNAME"] == "lo"


def test_the_environment_names_the_node(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert Nodes.read() == Nodes()
    about = {"count": 3, "number": 2, "endpoint": "[fd00::1]:5000", "start": "ab"}
    monkeypatch.setenv(VARIABLE, json.dumps(about))
    assert Nodes.read() == Nodes(3, 2, "[fd00::1]:5000", "ab")
    assert Nodes.read().host == "fd00::1"
