"""Several nodes that train one run together: what each of them knows and reports.

They share the run folder. Each has the processes of its own GPUs, which are numbered through all
nodes; the first node has the worker of the run, which writes its events and its files.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from pydantic import TypeAdapter

from modelforge.errors import Problem, RunError
from modelforge.modeling.errors import WorkerError
from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.layout import RunFolder

# Names this node to the process that trains its part, as JSON.
VARIABLE = "MODELFORGE_NODES"
# What starts the nodes has a limit of its own, and says why one does not come.
JOIN_S = 3600.0
# A node that has ended says so on the shared disk within this time.
END_S = 10.0
POLL_S = 0.2
LAST_LINES = 20
# Written by the program that watches the nodes: why one of them is lost.
LOST = "lost.json"
SOCKETS = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
REMEDY = "Resume the run from its newest checkpoint, on as many nodes or on one."


@dataclass(frozen=True)
class Nodes:
    """The nodes of a run, as one of them sees them.

    Attributes:
        count: Nodes.
        number: Number of this one, from 0.
        endpoint: Address of the first one, with a port that is free there: HOST:PORT.
        start: Name of this start, in letters and digits, which no other one has.
    """

    count: int = 1
    number: int = 0
    endpoint: str = "127.0.0.1:0"
    start: str = "alone"

    @classmethod
    def read(cls) -> Nodes:
        """Return what the environment says; one node without the variable."""
        text = os.environ.get(VARIABLE)
        return _NODES.validate_json(text) if text else cls()

    @property
    def host(self) -> str:
        """The address of the first node."""
        return self.endpoint.rpartition(":")[0].strip("[]")

    def choose_network(self) -> None:
        """Let the processes send through the interface that reaches the first node."""
        if sys.platform != "linux":
            return
        if self.count == 1:
            # Nothing is sent to other computers.
            os.environ.update(dict.fromkeys(SOCKETS, "lo"))
        elif name := interface_to(self.host):
            for variable in SOCKETS:
                os.environ.setdefault(variable, name)

    # The first node

    def open(self, run: RunFolder) -> None:
        """Let the other nodes report, in a folder without what an earlier start has left."""
        (run.ranks / self.start).mkdir(parents=True)

    def wait_for_others(self, run: RunFolder, check: Callable[[], None]) -> None:
        """Wait until every node is there; `check` raises when the run must stop.

        Raises WorkerError when one does not come.
        """
        deadline = time.monotonic() + JOIN_S
        while missing := [n for n in range(1, self.count) if self._report(run, n) is None]:
            self._raise_if_lost(run)
            check()
            if time.monotonic() > deadline:
                what = f"Node {missing[0] + 1} of the run has not come within {JOIN_S:,.0f} s."
                raise node_lost(what)
            time.sleep(POLL_S)

    def exit_codes(self, run: RunFolder, is_known: Callable[[], bool]) -> dict[int, int]:
        """Return the exit codes of the processes of the other nodes that have failed, by rank.

        Waits a while for the nodes that have not ended, unless the cause `is_known`. Raises
        WorkerError for a node that has ended without a message.
        """
        deadline = time.monotonic() + END_S
        others = range(1, self.count)
        while True:
            ends = {n: (self._report(run, n) or {}).get("codes") for n in others}
            silent = [number for number, codes in ends.items() if codes is None]
            if not silent or is_known():
                break
            self._raise_if_lost(run)
            if time.monotonic() > deadline:
                name = (self._report(run, silent[0]) or {}).get("name", "")
                what = f"Node {silent[0] + 1} of the run, {name}, has ended without a message."
                raise node_lost(what)
            time.sleep(POLL_S)
        return {int(rank): code for codes in ends.values() for rank, code in (codes or {}).items()}

    def show_logs(self, run: RunFolder) -> None:
        """Copy the last lines that processes of other nodes have written into the log."""
        for path in sorted(run.ranks.glob(f"{self.start}/node-*/**/stderr.log")):
            lines = path.read_text("utf-8", "replace").splitlines()[-LAST_LINES:]
            node = path.relative_to(run.ranks / self.start).parts[0]
            sys.stderr.write("".join(f"{node}: {line}\n" for line in lines))

    # The others

    def join(self, run: RunFolder) -> None:
        """Wait until the first node has begun, and say that this one is there.

        Raises WorkerError if that is not seen here.
        """
        deadline = time.monotonic() + JOIN_S
        while not (run.ranks / self.start).is_dir():
            if time.monotonic() > deadline:
                what = f"The start of the run is not seen in {run.path} on {socket.gethostname()}."
                remedy = "The nodes need a home folder on a disk that they share."
                raise node_lost(what, remedy)
            time.sleep(POLL_S)
        self._write(run, None)

    def end(self, run: RunFolder, codes: dict[int, int]) -> None:
        """Report the end of the processes of this node: codes of those that failed, by rank."""
        with contextlib.suppress(RunError):  # the first node may have ended, with its folder
            self._write(run, codes)

    def logs(self, run: RunFolder) -> Path:
        """Return the folder for what the processes of this node write."""
        return run.ranks if self.number == 0 else run.ranks / self.start / f"node-{self.number + 1}"

    def _write(self, run: RunFolder, codes: dict[int, int] | None) -> None:
        path = run.ranks / self.start / f"{self.number}.json"
        write_json(path, {"name": socket.gethostname(), "codes": codes})

    def _report(self, run: RunFolder, number: int) -> dict[str, Any] | None:
        return find_json(run.ranks / self.start / f"{number}.json")

    def _raise_if_lost(self, run: RunFolder) -> None:
        """Raise WorkerError with what the program has written that watches the nodes."""
        lost = find_json(run.ranks / self.start / LOST)
        if lost is not None:
            raise node_lost(lost["what"], lost["remedy"])


_NODES = TypeAdapter(Nodes)


def node_lost(what: str, remedy: str = REMEDY) -> WorkerError:
    """Return the error for a node that has ended, or that does not come."""
    return WorkerError("node-lost", Problem("nodes", what, remedy))


def interface_to(host: str) -> str:
    """Return the network interface of this computer that reaches a host; empty if unknown."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 1))  # of UDP: nothing is sent
        except OSError:
            return ""
        own = probe.getsockname()[0]
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == own for each in addresses):
            return name
    return ""
