"""A stand-in for what is used of the package ray: a cluster whose nodes are threads.

The file that RAY_NODES names has its nodes as JSON: name, CPU, GPU, and what it does not have.
The first one is that of the driver.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


class WorkerCrashedError(RayError):
    pass


class Task(threading.Thread):
    def __init__(self, function: Any, node: dict[str, Any], arguments: tuple[Any, ...]) -> None:
        super().__init__(daemon=True)
        self.function, self.node, self.arguments = function, node, arguments
        self.result: Any = None
        self.error: RayError | None = None

    def run(self) -> None:
        name, arguments = self.function.__name__, self.arguments
        if self.node.get("hangs"):
            time.sleep(600)
        if name == "describe" and self.node.get("is_elsewhere"):
            arguments = (f"{arguments[0]}-elsewhere", *arguments[1:])
        if name == "describe" and self.node.get("has_no_python"):
            arguments = (arguments[0], ["/no/such/python"], *arguments[2:])
        if name == "train" and self.node.get("crashes"):
            self.error = WorkerCrashedError("The worker died unexpectedly.\nSee its log.")
            return
        try:
            self.result = self.function(*arguments)
        except Exception as error:  # noqa: BLE001  # as Ray: it is raised where it is asked for
            self.error = RayTaskError(f"ray::{name}()\n  File ...\n{error!r}")


class Remote:
    def __init__(self, function: Any, **options: Any) -> None:
        self.function, self.chosen = function, options

    def options(self, **options: Any) -> Remote:
        return Remote(self.function, **self.chosen | options)

    def remote(self, *arguments: Any) -> Task:
        assert self.chosen["max_retries"] == 0
        assert self.chosen["runtime_env"] == {"py_modules": ["gcs://programs.zip"]}
        node = self.chosen["scheduling_strategy"].node()
        needed = {"CPU": self.chosen["num_cpus"], "GPU": self.chosen.get("num_gpus", 0)}
        assert all(node["Resources"].get(kind, 0) >= amount for kind, amount in needed.items())
        task = Task(self.function, node["about"], arguments)
        task.start()
        return task


class Group:
    """Bundles on the nodes beside the driver's, once `free` is not false for as many of them."""

    def __init__(
        self, bundles: list[dict[str, float]], strategy: str, bundle_label_selector: Any
    ) -> None:
        assert strategy == "STRICT_SPREAD"
        here = get_runtime_context().get_node_id()
        assert bundle_label_selector == [{"ray.io/node-id": f"!{here}"}] * len(bundles)
        self.bundles = bundles

    def nodes(self) -> list[dict[str, Any]]:
        def has(node: dict[str, Any]) -> bool:
            needed = self.bundles[0].items()
            return all(node["Resources"].get(kind, 0) >= amount for kind, amount in needed)

        free = [node for node in nodes()[1:] if node["Alive"] and has(node)]
        return free[: len(self.bundles)] if len(free) >= len(self.bundles) else []


def placement_group_table(group: Group) -> dict[str, Any]:
    placed = group.nodes()
    return {
        "state": "CREATED" if placed else "PENDING",
        "bundles_to_node_id": {n: node["NodeID"] for n, node in enumerate(placed)},
    }


def on_bundle(group: Group, placement_group_bundle_index: int) -> SimpleNamespace:
    return SimpleNamespace(node=lambda: group.nodes()[placement_group_bundle_index])


def on_node(node_id: str, soft: bool) -> SimpleNamespace:
    assert not soft
    return SimpleNamespace(node=lambda: next(n for n in nodes() if n["NodeID"] == node_id))


def nodes() -> list[dict[str, Any]]:
    return [
        {
            "NodeID": f"{number:04x}",
            "NodeManagerHostname": about["name"],
            "NodeManagerAddress": f"10.0.0.{number + 1}",
            "Alive": about.get("alive", True),
            "Resources": {kind: about[kind] for kind in ("CPU", "GPU") if kind in about},
            "about": about,
        }
        for number, about in enumerate(json.loads(Path(os.environ["RAY_NODES"]).read_text()))
    ]


def wait(tasks: list[Task], num_returns: int, timeout: float) -> tuple[list[Task], list[Task]]:
    assert 0 < num_returns == len(tasks)
    deadline = time.monotonic() + timeout
    for task in tasks:
        task.join(max(0.0, deadline - time.monotonic()))
    done = [task for task in tasks if not task.is_alive()]
    return done, [task for task in tasks if task not in done]


def get(task: Task) -> Any:
    if task.error is not None:
        raise task.error
    return task.result


def cancel(task: Task, force: bool) -> None:
    assert force
    assert task.is_alive()


def get_runtime_context() -> SimpleNamespace:
    return SimpleNamespace(
        get_node_id=lambda: nodes()[0]["NodeID"],
        runtime_env={"working_dir": "gcs://programs.zip", "py_modules": ["gcs://large.zip"]},
    )


def init(address: str, **_options: Any) -> None:
    assert address == "auto"


def is_initialized() -> bool:
    return False


def shutdown() -> None:
    pass


remote = Remote
exceptions = SimpleNamespace(
    RayError=RayError, RayTaskError=RayTaskError, RuntimeEnvSetupError=type("E", (RayError,), {})
)
util = ModuleType("ray.util")
vars(util).update(
    get_node_ip_address=lambda: "127.0.0.1",
    placement_group_table=placement_group_table,
    remove_placement_group=lambda _group: None,
)
for name, members in {
    "ray.util": vars(util),
    "ray.util.placement_group": {"placement_group": Group},
    "ray.util.scheduling_strategies": {
        "NodeAffinitySchedulingStrategy": on_node,
        "PlacementGroupSchedulingStrategy": on_bundle,
    },
}.items():
    module = sys.modules.setdefault(name, ModuleType(name))
    vars(module).update({key: value for key, value in members.items() if key[:2] != "__"})
