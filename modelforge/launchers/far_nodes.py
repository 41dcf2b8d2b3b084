"""Several nodes of a Ray cluster for one run, with the Python of the cluster, which has ray.

The driver of the job is on the first node, and has the worker of the run. A task on each of the
others does the part of its node. All see the same home, on a disk that they share.
"""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

# A node that has not answered a check within this time does not answer.
CHECK_S = 300.0
# Nodes that are in use, or are started, have this time to become free.
JOIN_S = 1800.0
# The worker notices the end of another node itself, ends when it is asked to, or is killed.
GRACE_S, KILL_S = 20.0, 120.0
# A node that is done with its part has this time to end.
END_S = 15.0
LAST_BYTES = 2000
# Loaded before a process is started: Ray has threads, and after a fork their locks stay locked.
PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
NODE_ID, SELECTOR = "ray.io/node-id", "bundle_label_selector"
# Set by Ray for a task, by its number of CPUs.
THREADS = "OMP_NUM_THREADS"
REMEDY = "Resume the run from its newest checkpoint, there or here."


def check(home: str, command: list[str], code: str) -> list[dict[str, Any]]:
    """Return each node that could train a part, with its hardware or with what hinders it.

    `command` describes the hardware of the computer where it runs.
    """
    ray = _connect()
    from ray.util.placement_group import placement_group  # noqa: PLC0415
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

    if SELECTOR not in inspect.signature(placement_group).parameters:
        raise ValueError(f"several nodes need Ray 2.49 or newer; this is {ray.__version__}")
    token = Path(home, f".seen-{uuid.uuid4().hex}")
    token.touch()
    try:
        asked = {}
        for node in _able(ray):
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = _task(ray, describe, num_cpus=0, scheduling_strategy=place)
            asked[task.remote(str(token), command, code)] = node
        answered = ray.wait(list(asked), num_returns=len(asked), timeout=CHECK_S)[0]
        found = []
        for task, node in asked.items():
            about = {"name": _name(node), "gpus": int(node["Resources"].get("GPU", 0))}
            late = {"problem": f"it has not answered within {CHECK_S:.0f} s"}
            found.append(about | (_answer_of(ray, task) if task in answered else late))
        return found
    finally:
        token.unlink(missing_ok=True)


def describe(token: str, command: list[str], code: str) -> dict[str, Any]:
    """Return the hardware of the node where this runs; a task of `check`."""
    if not Path(token).exists():
        return {"is_elsewhere": True}
    # Ray hides the GPUs from a task that needs none.
    variables = {
        name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"
    }
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=variables | {"PYTHONPATH": code},
        )
        if done.returncode == 0:
            return {"machine": json.loads(done.stdout.strip().splitlines()[-1])}
        return {"problem": _last_line(done.stderr) or f"it ended with the code {done.returncode}"}
    except (OSError, ValueError, IndexError) as error:
        return {"problem": f"{type(error).__name__}: {error}"}


class OtherNodes:
    """The nodes of a run beside this one.

    Call `look` again and again while the worker of the first node runs, then `close`.

    Args:
        count: Nodes, with this one.
        gpus: GPUs of each.
        folder: The run folder.
        command: Does the part of a node.
        code: The folder of our code.
    """

    def __init__(self, count: int, gpus: int, folder: Path, command: list[str], code: str) -> None:
        self._ray = _connect()
        from ray.util.placement_group import placement_group  # noqa: PLC0415

        self._count, self._gpus = count, gpus
        self._command, self._code = command, code
        self._endpoint = f"{_host(self._ray.util.get_node_ip_address())}:{_free_port()}"
        self._start = uuid.uuid4().hex
        self._reports = folder / "ranks" / self._start
        bundle = {"CPU": 1.0} | ({"GPU": float(gpus)} if gpus else {})
        here = self._ray.get_runtime_context().get_node_id()
        self._group = placement_group(
            [bundle] * (count - 1),
            strategy="STRICT_SPREAD",
            **{SELECTOR: [{NODE_ID: f"!{here}"}] * (count - 1)},
        )
        self._deadline = time.monotonic() + JOIN_S
        self._tasks: dict[Any, str] = {}
        self._lost: dict[str, str] | None = None
        self._lost_at = 0.0
        self._over: set[float] = set()

    def variables(self, number: int = 0) -> dict[str, str]:
        """Return what a node has in its environment."""
        nodes = {
            "count": self._count,
            "number": number,
            "endpoint": self._endpoint,
            "start": self._start,
        }
        return {"MODELFORGE_NODES": json.dumps(nodes)}

    def look(self, worker: subprocess.Popen[bytes]) -> None:
        """Start the parts once their nodes are there; end the worker when one of them is lost."""
        if self._lost is not None:
            self._end(worker, self._lost)
        elif self._tasks:
            done = self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0)[0]
            for task in done:
                if why := _answer_of(self._ray, task).get("problem"):
                    self._lose(f"{self._tasks[task]}, has ended: {why}", REMEDY)
        elif self._is_placed():
            self._begin()
        elif time.monotonic() > self._deadline:
            alive = len(_able(self._ray))
            gpus = f" with {self._gpus} free GPUs each" if self._gpus else ""
            nodes = "1 node" if alive == 1 else f"{alive} nodes"
            what = (
                f"The cluster has {nodes} alive, and the run needs {self._count}{gpus}: "
                f"they were not free within {JOIN_S:,.0f} s."
            )
            self._lose(what, "Start more nodes, or wait until other jobs have ended.")

    def close(self) -> None:
        """End what is left on the other nodes; the worker has ended."""
        if self._tasks:
            tasks = list(self._tasks)
            left = self._ray.wait(tasks, num_returns=len(tasks), timeout=END_S)[1]
            for task in left:
                self._ray.cancel(task, force=True)
        self._ray.util.remove_placement_group(self._group)
        self._ray.shutdown()

    def _table(self) -> dict[str, Any]:
        table: dict[str, Any] = self._ray.util.placement_group_table(self._group)
        return table

    def _is_placed(self) -> bool:
        return bool(self._table()["state"] == "CREATED")

    def _begin(self) -> None:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy  # noqa: PLC0415

        nodes = {node["NodeID"]: _name(node) for node in self._ray.nodes()}
        places = self._table()["bundles_to_node_id"]
        for number in range(1, self._count):
            place = PlacementGroupSchedulingStrategy(
                self._group, placement_group_bundle_index=number - 1
            )
            task = _task(
                self._ray, train, num_cpus=1, num_gpus=self._gpus, scheduling_strategy=place
            )
            variables = self.variables(number) | {"PYTHONPATH": self._code}
            started = task.remote(self._command, variables, os.environ.get(THREADS))
            name = nodes.get(places.get(number - 1, ""), "of an unknown name")
            self._tasks[started] = f"Node {number + 1} of the run, {name}"

    def _lose(self, what: str, remedy: str) -> None:
        self._lost = {"what": what, "remedy": remedy}

    def _end(self, worker: subprocess.Popen[bytes], lost: dict[str, str]) -> None:
        """Let the worker know why a node is lost, and end it if it does not end itself."""
        if not self._lost_at:
            # The worker makes the folder, and removes it at its end.
            with contextlib.suppress(FileNotFoundError):
                draft = self._reports / ".lost"
                draft.write_text(json.dumps(lost))
                draft.replace(self._reports / "lost.json")
                self._lost_at = time.monotonic()
            return
        late = time.monotonic() - self._lost_at
        for limit_s, end in ((GRACE_S, worker.terminate), (KILL_S, worker.kill)):
            if late > limit_s and limit_s not in self._over:
                self._over.add(limit_s)
                end()


def train(command: list[str], variables: dict[str, str], threads: str | None) -> dict[str, Any]:
    """Do the part of the node where this runs; a task of `OtherNodes`."""
    environment = os.environ | variables
    environment.pop(THREADS, None)
    if threads is not None:
        environment[THREADS] = threads
    with tempfile.TemporaryFile() as output:
        worker = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=end_with_parent,  # noqa: PLW1509  # it takes no lock
        )
        code = worker.wait()
        output.seek(max(0, output.seek(0, os.SEEK_END) - LAST_BYTES))
        last = _last_line(output.read().decode("utf-8", "replace"))
    return {"problem": f"code {code}. {last}".rstrip()} if code else {}


def end_with_parent() -> None:
    """Let this process be killed together with the one that has started it."""
    if PRCTL is not None:
        set_death_signal = 1
        PRCTL(set_death_signal, signal.SIGKILL)


def _connect() -> Any:
    """Return the package ray, connected to the cluster of this job; raises ValueError."""
    try:
        import ray  # noqa: PLC0415  # of the cluster
    except ImportError as error:
        message = "the Python of the job has no ray: name that of the cluster with python=PATH"
        raise ValueError(message) from error
    if not ray.is_initialized():
        ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    return ray


def _able(ray: Any) -> list[dict[str, Any]]:
    """Return the nodes that could train: those with GPUs, or else this one and those with CPUs."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    here = ray.get_runtime_context().get_node_id()
    with_cpus = [n for n in alive if n["Resources"].get("CPU", 0) >= 1 or n["NodeID"] == here]
    return [node for node in alive if node["Resources"].get("GPU", 0) >= 1] or with_cpus


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def _task(ray: Any, function: Any, **needs: Any) -> Any:
    """Return a task that is not repeated; what the job brings along is not copied for it."""
    # An empty list is not possible; these are our programs, which the task needs anyway.
    modules = [ray.get_runtime_context().runtime_env["working_dir"]]
    return ray.remote(function).options(max_retries=0, runtime_env={"py_modules": modules}, **needs)


def _answer_of(ray: Any, task: Any) -> dict[str, Any]:
    """Return what a task that has ended returned, or why it has failed as its `problem`."""
    try:
        answer: dict[str, Any] = ray.get(task)
    except (ray.exceptions.RayTaskError, ray.exceptions.RuntimeEnvSetupError) as error:
        return {"problem": _last_line(str(error))}
    except ray.exceptions.RayError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return {"problem": lines[0] if lines else type(error).__name__}
    return answer


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
