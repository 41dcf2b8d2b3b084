"""What the nodes of a Ray cluster have answered, and how a run is divided among several of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from modelforge.errors import ConfigError, Problem
from modelforge.hardware.machine import Machine
from modelforge.launchers.remote_home import parse_machine
from modelforge.launchers.shell import clean
from modelforge.units import GIB, human_bytes

MAX_NODES = 64
# On the disk of a node, once the environment is made.
NEEDED_FREE_BYTES = GIB


def read_nodes(options: Mapping[str, str]) -> int:
    """Return how many nodes train a run together; raises ConfigError."""
    text = options.get("nodes", "1")
    # Ten digits are too many as well, and no long text is converted.
    nodes = int(text[:10]) if text.isascii() and text.isdecimal() else 0
    if not 1 <= nodes <= MAX_NODES:
        what = f"{text[:20]!r} is not a whole number from 1 to {MAX_NODES}."
        raise ConfigError(Problem("nodes", what, "Give the nodes that train a run together."))
    if nodes > 1 and not options.get("home"):
        what = f"{nodes} nodes need a home folder on a disk that they share."
        raise ConfigError(Problem("home", what, "Name that folder: home=FOLDER."))
    return nodes


def nodes_of(plan: Mapping[str, Any], nodes: int) -> tuple[int, int]:
    """Return on how many nodes a run trains, and its GPUs on each; 0 for one that uses none.

    A run with one process uses one node. Raises ConfigError where the nodes cannot share the
    processes equally.
    """
    ranks = int(plan.get("ranks") or 1)
    nodes = nodes if ranks > 1 else 1
    if ranks % nodes:
        what = f"{nodes} nodes cannot share {ranks} GPUs equally."
        remedy = f"Set it to a multiple of {nodes}, or to 1."
        raise ConfigError(Problem("hardware.gpus", what, remedy))
    return nodes, ranks // nodes if plan.get("device") == "cuda" else 0


def far_problems(there: Mapping[str, Any], nodes: int) -> list[Problem]:
    """Return what hinders a run on so many nodes where `far_engine.py prepare` has answered."""
    if "error" in there:
        what = f"The node cannot be prepared: {clean(there['error'])}"
        return [Problem("environment", what, "Correct that there, or name environment=PYTHON.")]
    if not there["is_supported"]:
        what = f"Its Python is {clean(there['python'])} on {clean(there['system'])}."
        return [Problem("python", what, "Python 3.11 to 3.13 on Linux is needed: python=PATH.")]
    if there["disk_free"] < NEEDED_FREE_BYTES:
        free, needed = human_bytes(there["disk_free"]), human_bytes(NEEDED_FREE_BYTES)
        what = f"The node has {free} free in {clean(there['home'])}; {needed} are needed."
        return [Problem("disk", what, "Free some there, or name another folder: home=FOLDER.")]
    if there["differing"]:
        what = f"The environment there has {clean(', '.join(there['differing']))}."
        remedy = "Install these versions there, or leave out environment= to have one made."
        return [Problem("environment", what, remedy)]
    return _node_problems(there, nodes) if nodes > 1 else []


def _node_problems(there: Mapping[str, Any], nodes: int) -> list[Problem]:
    problems = []
    found = there["nodes"]
    if len(found) < nodes:
        kind = " with GPUs" if any(node["gpus"] for node in found) else ""
        count = "1 node" if len(found) == 1 else f"{len(found)} nodes"
        what = f"The cluster has {count}{kind} alive; {nodes} are needed."
        remedy = "Start more nodes, or add the target with fewer: nodes=N."
        problems.append(Problem("nodes", what, remedy))
    for node in found:
        where = f"node {clean(node['name'])}"
        if node.get("is_elsewhere"):
            what = f"does not see the folder {clean(there['home'])} of the other nodes."
            remedy = "Name a folder on a disk that all nodes share: home=FOLDER."
            problems.append(Problem(where, what, remedy))
        elif "problem" in node:
            why = clean(node["problem"]).rstrip(".")
            what = f"cannot do a part of a run: {why}."
            problems.append(Problem(where, what, "Correct that there."))
    return problems


def machine_of(there: Mapping[str, Any], nodes: int) -> Machine:
    """Return the hardware for which runs are planned; raises ConfigError if it cannot be read.

    That of several nodes has the GPUs of all, as many of each, and the rest of the one with the
    least memory.
    """
    if nodes == 1:
        return _machine(there)
    found = [
        replace(machine, gpus=machine.gpus[: node["gpus"]])
        for node in there["nodes"]
        for machine in [_machine(node)]
    ]
    used = sorted(found, key=lambda machine: len(machine.gpus), reverse=True)[:nodes]
    each = len(used[-1].gpus)
    # Runs are planned for the memory of the first GPU.
    gpus = sorted(
        (gpu for machine in used for gpu in machine.gpus[:each]),
        key=lambda gpu: gpu.total_gib or 0.0,
    )
    smallest = min(used, key=lambda machine: machine.ram_total_gib or 0.0)
    numbered = [replace(gpu, index=index) for index, gpu in enumerate(gpus)]
    return replace(smallest, gpus=numbered, nodes=nodes)


def _machine(described: Mapping[str, Any]) -> Machine:
    return parse_machine(json.dumps(described["machine"]).encode())
