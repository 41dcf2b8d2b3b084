"""`ray:HOST:8265` or `ray://HOST:10001`: a Ray cluster, through the Jobs API of its dashboard.

Nothing of Ray is needed here. A job brings code, files and run along as its working folder; events,
log and result are read through the API for logs, in whose folder the job links the run.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import httpx

from modelforge.errors import ConfigError, ForgeError, Problem, RunError
from modelforge.launchers.bundle import Bundle
from modelforge.launchers.far import MAX_READ_BYTES
from modelforge.launchers.far_parts import MARK, PART_BYTES, PARTS, PIECES
from modelforge.launchers.launcher import (
    Condition,
    JobState,
    Progress,
    Report,
    StopMode,
    UnreachableError,
)
from modelforge.launchers.ray_nodes import far_problems, machine_of, nodes_of, read_nodes
from modelforge.launchers.remote_home import DEFAULT_HOME, NOT_FETCHED
from modelforge.launchers.shell import clean
from modelforge.launchers.wheel import Code
from modelforge.runs.process.launch import Launch, Target
from modelforge.units import MIB, human_bytes

OPTIONS = {
    "environment": "Python of an environment on its nodes; empty has one made.",
    "extras": "Extras to install, such as quantization.",
    "home": f"Folder on its nodes ({DEFAULT_HOME}).",
    "nodes": "Nodes that train one run together (1); more need a home that they share.",
    "python": "Python 3.11 to 3.13 on its nodes (python).",
}
CLIENT_PORT, DASHBOARD_PORT = 10001, 8265
# Where Ray looks for a token itself.
TOKEN = "RAY_AUTH_TOKEN"
# The dashboard takes requests up to 100 MiB; what a run needs is in the memory of the head node.
PIECE_BYTES, MAX_BYTES = 90 * MIB, 900 * MIB
TIMEOUT = httpx.Timeout(30.0, read=120.0)
# An environment is made within this time.
PREPARE_S = 3600.0
POLL_S = 1.0
STATES: dict[str, JobState] = {"PENDING": "waiting", "RUNNING": "running"}
# Programs that a job starts, beside the files of a bundle.
PROGRAMS = ("far.py", "far_engine.py", "far_nodes.py", "far_parts.py")
# A job that is stopped in Ray has this time to save.
STOP_S = "120"


def open_target(target: Target) -> RayLauncher:
    """Return the launcher of a target; raises ConfigError for an address that names no host."""
    text = target.address if "://" in target.address else f"http://{target.address}"
    try:
        parts = urlsplit(text)
        port = parts.port or DASHBOARD_PORT
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        what = f"{target.address[:80]!r} is not the address of a Ray cluster."
        raise ConfigError(Problem("address", what, "Write HOST:8265 or http://HOST:8265."))
    port = DASHBOARD_PORT if port == CLIENT_PORT else port
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return RayLauncher(target, f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}")


class RayLauncher:
    """Runs as jobs of a Ray cluster."""

    def __init__(self, target: Target, address: str) -> None:
        self._options = target.options
        self._nodes = read_nodes(target.options)
        self._address = address
        headers = {"Authorization": f"Bearer {token}"} if (token := os.environ.get(TOKEN)) else {}
        self._http = httpx.Client(base_url=address, headers=headers, timeout=TIMEOUT)

    def check(self, code: Code, report: Report) -> Condition:
        """Return what hinders a run there; prepare the environment and read the hardware."""
        try:
            return Condition([], machine_of(self._prepare(code, report, self._nodes), self._nodes))
        except ForgeError as error:
            return Condition(error.problems)

    def prepare(self, bundle: Bundle, report: Report) -> str:
        """Prepare the environment there; the files go along with the job."""
        nodes, _gpus = nodes_of(bundle.record["plan"], self._nodes)
        return str(self._prepare(bundle.code, report, nodes)["home"])

    def find(self, launch: Launch) -> str | None:
        """Return the id of the job, which is its name."""
        return launch.job if self._job(launch.job) else None

    def submit(self, bundle: Bundle, launch: Launch) -> str:
        """Submit the job with all files; Ray refuses a second one of its name."""
        with tempfile.TemporaryDirectory(prefix="modelforge-") as folder:
            bundle.stage(Path(folder))
            brought = self._upload(Path(folder))
        nodes, gpus = nodes_of(bundle.record["plan"], self._nodes)
        arguments = [bundle.code.key, self._options.get("environment", ""), bundle.run.id]
        several = ["", str(nodes), str(gpus)] if nodes > 1 else []
        call = ["train", launch.home, *arguments, *several]
        return self._start(launch.job, brought, call, entrypoint_num_gpus=gpus)

    def poll(self, launch: Launch, run: str, events_at: int, log_at: int) -> Progress:
        """Return the state of the job and what it has written."""
        # Before the files: what the job writes last is read then.
        job = self._job(launch.id)
        if job is None:
            return Progress("ended", cause="The cluster does not know the job any more.")
        state: JobState = STATES.get(job["status"], "ended")
        if state == "waiting":
            return Progress(state, note=clean(job.get("message") or "It waits for a free node."))
        node = job.get("driver_node_id") or ""
        events = self._read(node, run, "events", events_at) if node else b""
        log = self._read(node, run, "log", log_at) if node else b""
        has_more = max(len(events), len(log)) >= MAX_READ_BYTES
        if state == "ended" and not has_more:
            return Progress(state, events, log, cause=self._cause(job))
        return Progress("running", events, log)

    def stop(self, launch: Launch, run: str, mode: StopMode, *, kill: bool = False) -> None:
        """Write the stop file with a job on the same node, or end the job."""
        job = self._job(launch.id)
        if job is None or job["status"] not in STATES:
            return
        if kill or job["status"] == "PENDING":
            self._call("POST", f"/api/jobs/{launch.id}/stop")
            return
        with tempfile.TemporaryDirectory(prefix="modelforge-") as folder:
            brought = self._upload(Path(folder))
        node = job.get("driver_node_id") or ""
        label = {"ray.io/node-id": node} if node else {}
        call = ["stop", launch.home, run, mode]
        name = f"{launch.id}-{mode}-{time.time_ns()}"
        self._start(name, brought, call, entrypoint_label_selector=label)
        self._wait(name, 120.0)

    def fetch(self, launch: Launch, run: str, into: Path, *, checkpoints: bool) -> None:
        """Read every file of the run folder; nothing, where the node of the job is not known."""
        job = self._job(launch.id)
        if job is None or not (node := job.get("driver_node_id")):
            return
        prefix = f"modelforge-{run}/"
        for name in self._list(node, f"{prefix}**/*"):
            inside = name.removeprefix(prefix)
            parts = PurePosixPath(inside).parts
            if not name.startswith(prefix) or ".." in parts or PurePosixPath(inside).is_absolute():
                what = f"{clean(name)} leads out of the run folder."
                raise RunError(Problem("target", what, "Nothing was copied. Look at it there."))
            if self._is_left(parts, checkpoints=checkpoints):
                continue
            target = into.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._download(node, name, target)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _prepare(self, code: Code, report: Report, nodes: int) -> dict[str, Any]:
        report(f"Connecting to {self._address}")
        self._call("GET", "/api/version")
        report("Sending the code")
        with tempfile.TemporaryDirectory(prefix="modelforge-") as folder:
            code.write(Path(folder, "code", code.key))
            brought = self._upload(Path(folder))
        report("Preparing the environment there")
        name = f"modelforge-prepare-{code.key}-{time.time_ns()}"
        home = self._options.get("home", DEFAULT_HOME)
        environment = self._options.get("environment", "")
        self._start(name, brought, ["prepare", home, code.key, environment, str(nodes)])
        job = self._wait(name, PREPARE_S)
        there = self._answer(name, job)
        problems = far_problems(there, nodes)
        if problems:
            raise ConfigError(problems)
        return there

    def _answer(self, name: str, job: dict[str, Any]) -> dict[str, Any]:
        """Return what a program of ours has answered; raises ConfigError without an answer."""
        logs = str(self._call("GET", f"/api/jobs/{name}/logs").get("logs", ""))
        lines = [line for line in logs.splitlines() if line.startswith(MARK)]
        try:
            answer: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
        except (IndexError, ValueError) as error:
            why = clean(logs or job.get("message") or "no output")
            what = f"The job that prepares a node has not answered: {why}"
            remedy = "Its Python must be 3.11 to 3.13: name one with python=PATH."
            raise ConfigError(Problem("target", what, remedy)) from error
        return answer

    def _start(self, name: str, brought: Mapping[str, Any], call: list[str], **needs: Any) -> str:
        python = self._options.get("python", "python")
        request = {
            "entrypoint": shlex.join([python, "far_engine.py", *call]),
            "submission_id": name,
            "runtime_env": {
                **brought,
                "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": STOP_S},
            },
            **{key: value for key, value in needs.items() if value},
        }
        self._call("POST", "/api/jobs/", json=request)
        return name

    def _wait(self, name: str, limit_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            job = self._job(name)
            if job is not None and job["status"] not in STATES:
                return job
            time.sleep(POLL_S)
        what = f"The job {name} has not ended within {limit_s:,.0f} s."
        raise RunError(Problem("target", what, "Look at it in the dashboard of the cluster."))

    def _job(self, name: str) -> dict[str, Any] | None:
        response = self._request("GET", f"/api/jobs/{name}")
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        job: dict[str, Any] = self._checked(response)
        return job

    def _cause(self, job: dict[str, Any]) -> str:
        if job["status"] == "FAILED" and job.get("message"):
            return f"Ray says: {clean(job['message'])}"
        return "The job was stopped in Ray." if job["status"] == "STOPPED" else ""

    def _upload(self, folder: Path) -> dict[str, Any]:
        """Upload a folder with our programs; return the part of a job that brings them along."""
        with tempfile.TemporaryFile() as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for path in sorted(folder.rglob("*")):
                    if path.is_file():
                        archive.write(path, path.relative_to(folder).as_posix())
            size = file.tell()
            if size > MAX_BYTES:
                most = human_bytes(MAX_BYTES)
                what = f"The run needs {human_bytes(size)} there; a Ray cluster takes {most}."
                remedy = "Use a model and a dataset of the Hub, which are downloaded there."
                raise ConfigError(Problem("target", what, remedy))
            file.seek(0)
            pieces: list[str] = []
            while data := file.read(PIECE_BYTES):
                name = f"{PIECES}/{len(pieces):03d}"
                pieces.append(self._package({name: data}))
        programs = {name: Path(__file__).with_name(name).read_bytes() for name in PROGRAMS}
        return {"working_dir": self._package(programs), "py_modules": pieces}

    def _package(self, files: Mapping[str, bytes]) -> str:
        """Upload files as a package of Ray, unless it is there; return its address."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, data in files.items():
                archive.writestr(zipfile.ZipInfo(name), data)
        content = buffer.getvalue()
        name = f"_ray_pkg_{hashlib.sha256(content).hexdigest()[:32]}.zip"
        path = f"/api/packages/gcs/{name}"
        if self._request("GET", path).status_code == httpx.codes.NOT_FOUND:
            self._checked(self._request("PUT", path, content=content))
        return f"gcs://{name}"

    def _read(self, node: str, run: str, kind: str, offset: int) -> bytes:
        """Return what a followed file has after an offset, at most about `MAX_READ_BYTES`."""
        read = b""
        while len(read) < MAX_READ_BYTES:
            number, skipped = divmod(offset + len(read), PART_BYTES)
            name = f"modelforge-{run}/{PARTS}/{kind}-{number}"
            response = self._request("GET", "/api/v0/logs/file", params=_of_file(node, name))
            if response.status_code != httpx.codes.OK:
                break  # nothing is written yet
            read += response.content[skipped:]
            if len(response.content) < PART_BYTES:
                break
        return read

    def _list(self, node: str, glob: str) -> list[str]:
        response = self._request("GET", "/api/v0/logs", params={"node_id": node, "glob": glob})
        found = self._checked(response)["data"]["result"]
        names = {str(name) for group in found.values() for name in group}
        return sorted(name for name in names if not name.endswith("/"))

    def _is_left(self, parts: tuple[str, ...], *, checkpoints: bool) -> bool:
        """Return whether a file of the run folder stays there."""
        is_hidden = any(part.startswith(".") for part in parts)
        return (
            is_hidden
            or f"/{parts[0]}" in NOT_FETCHED
            or (parts[0] == "checkpoints" and not checkpoints)
        )

    def _download(self, node: str, name: str, target: Path) -> None:
        try:
            query = _of_file(node, name)
            with self._http.stream("GET", "/api/v0/logs/file", params=query) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    self._checked(response)
                with target.open("wb") as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._checked(self._request(method, path, **more))
        return answer

    def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            what = f"{self._address} refuses the access ({response.status_code})."
            remedy = f"Set {TOKEN} to the token of the cluster where ModelForge is started."
            raise ConfigError(Problem("target", what, remedy))
        if response.status_code in (502, 503, 504):
            raise self._unreachable(RuntimeError(f"status {response.status_code}"))
        return response

    def _checked(self, response: httpx.Response) -> Any:
        if response.is_success:
            return response.json() if response.content else {}
        last = response.text.strip().splitlines()[-1:] or ["no reason"]
        what = f"Ray refuses: {clean(last[0])} ({response.status_code})."
        remedy = f"Look at the dashboard, {self._address}."
        raise ConfigError(Problem("target", what, remedy))

    def _unreachable(self, error: Exception) -> UnreachableError:
        why = clean(str(error)).rstrip(".") or type(error).__name__
        what = f"{self._address} does not answer: {why}."
        remedy = "Check that the cluster runs and that its dashboard can be reached from here."
        return UnreachableError(Problem("target", what, remedy))


def _of_file(node: str, name: str) -> dict[str, str]:
    """Return the query for a whole file; its size has no limit."""
    return {"node_id": node, "filename": name, "lines": "-1", "timeout": "600"}
