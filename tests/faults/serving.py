"""A real server that is killed and started again on its port, and those who talk to it."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelforge.paths import Home
from tests.faults.place import ROOT, until

REAL = ("-m", "ui", "--no-browser", "--home", "{home}", "--port", "{port}")

# The real server over stand-in workers, which need no training stack.
STAND_INS = ("tests/faults/serve.py", "{home}", "{port}")
UP_S = 60.0


class Server:
    """One server of a home, always on the same port."""

    def __init__(
        self, home: Home, command: tuple[str, ...] = STAND_INS, **environment: str
    ) -> None:
        home.root.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.port = free_port()
        self._command = [part.format(home=home.root, port=self.port) for part in command]
        more = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | environment
        self._environment = os.environ | more
        self._log = home.root / "faults-server.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the server that runs now."""
        assert self.process is not None
        return self.process.pid

    def start(self, wait: bool = True) -> float:
        """Start it and return how long it took until it answered."""
        began = time.monotonic()
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self._command], cwd=ROOT, env=self._environment,
                stdout=log, stderr=log,
            )  # fmt: skip
        if wait:
            until(self.is_up, UP_S, f"the server answers; see {self._log}")
        return time.monotonic() - began

    def kill(self) -> None:
        """End it as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End it in order."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()

    def is_up(self) -> bool:
        """Say whether it answers."""
        try:
            return self.ask("GET", "/api/health")[0] == 200
        except OSError:
            return False

    def ask(self, verb: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Return status and JSON (or text) of one request; raises OSError when nobody is there."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            sent = None if body is None else json.dumps(body)
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            line.request(verb, path, sent, {"Content-Type": "application/json"} | named)
            answer = line.getresponse()
            text = answer.read().decode()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            line.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def start_run(self, body: dict[str, Any], key: str | None = None) -> str:
        """Post a run and return its id."""
        status, reply = self.ask(
            "POST", "/api/runs", body, **({"Idempotency_Key": key} if key else {})
        )
        assert status == 202, reply
        return str(reply["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        """Return one run as REST tells it."""
        status, reply = self.ask("GET", f"/api/runs/{run_id}")
        assert status == 200, reply
        return dict(reply)

    def page(self, run_id: str, limit_s: float = 10.0) -> dict[str, Any]:
        """Return the first thing that the run's page is sent."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=limit_s)
        try:
            line.request("GET", f"/ui/runs/{run_id}/live")
            answer = line.getresponse()
            while sent := answer.readline():
                if sent.startswith(b"data: "):
                    return dict(json.loads(sent[6:]))
        finally:
            line.close()
        raise OSError("the page's stream ended without a word")


class Follower:
    """Follows a run's events as a browser does: comes back with the last number it has seen."""

    def __init__(self, server: Server, run_id: str) -> None:
        self._server, self._run = server, run_id
        self.numbers: list[int] = []
        self.state: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def wait(self, limit_s: float) -> bool:
        """Wait for the stream to tell that the run is over."""
        return self._over.wait(limit_s)

    def close(self) -> None:
        """Follow no longer."""
        self._over.set()

    def _follow(self) -> None:
        while not self._over.is_set():
            line = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=30)
            try:
                self._listen(line)
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
            finally:
                line.close()

    def _listen(self, line: http.client.HTTPConnection) -> None:
        seen = {"Last-Event-ID": str(self.numbers[-1])} if self.numbers else {}
        line.request("GET", f"/api/runs/{self._run}/events", headers=seen)
        answer = line.getresponse()
        if answer.status == 204:
            self._over.set()
        kind = ""
        while sent := answer.readline():
            if sent.startswith(b"event: "):
                kind = sent[7:].strip().decode()
            elif sent.startswith(b"data: "):
                reply = json.loads(sent[6:])
                if kind == "over":
                    self.state = reply["state"]
                    self._over.set()
                    return
                self.numbers.append(reply["n"])


def free_port() -> int:
    """Return a port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    home: Home, command: tuple[str, ...] = STAND_INS, **environment: str
) -> Iterator[Server]:
    """Yield a server that answers; end it afterwards."""
    server = Server(home, command, **environment)
    try:
        server.start()
        yield server
    finally:
        server.end()


def log_of(home: Home) -> str:
    """Return the end of what the servers of a home have printed."""
    path = Path(home.root / "faults-server.log")
    return path.read_text(errors="replace")[-3000:] if path.exists() else ""
