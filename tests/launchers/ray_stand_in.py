"""A stand-in for the dashboard of Ray 2.60: its Jobs API and its API for logs; jobs really run.

    python ray_stand_in.py FOLDER PORT [TOKEN]

A job that trains waits while the file `full` exists in the folder. The folder CLUSTER_PYTHON is
what the Python of the cluster has installed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

FOLDER, PORT = Path(sys.argv[1]), int(sys.argv[2])
TOKEN = (sys.argv[3:] or [""])[0]
NODE = "node-1"
LOGS, PACKAGES, WORK = FOLDER / "logs", FOLDER / "packages", FOLDER / "work"
# As the real dashboard.
MAX_BODY_BYTES = 100 * 2**20
JOBS: dict[str, dict[str, Any]] = {}


def unpacked(address: str, name: str) -> Path:
    target = WORK / f"{name}-{Path(address).stem}"
    with zipfile.ZipFile(PACKAGES / address.removeprefix("gcs://")) as archive:
        archive.extractall(target)
    return target


def run(name: str) -> None:
    job = JOBS[name]
    trains = " train " in job["request"]["entrypoint"]
    while trains and (FOLDER / "full").exists() and not job["stopped"]:
        time.sleep(0.05)
    if job["stopped"]:
        job["status"] = "STOPPED"
        return
    request = job["request"]
    environment = request["runtime_env"]
    folder = unpacked(environment["working_dir"], name)
    modules = [str(unpacked(each, name)) for each in environment.get("py_modules", [])]
    if "CLUSTER_PYTHON" in os.environ:
        modules.append(os.environ["CLUSTER_PYTHON"])
    variables = os.environ | environment["env_vars"] | {"PYTHONPATH": ":".join(modules)}
    with (LOGS / f"job-driver-{name}.log").open("wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {request['entrypoint']}"],
            cwd=folder, env=variables, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    job |= {"status": "RUNNING", "pid": process.pid, "driver_node_id": NODE}
    (FOLDER / f"{name}.pid").write_text(str(process.pid))
    code = process.wait()
    job["status"] = "STOPPED" if job["stopped"] else "FAILED" if code else "SUCCEEDED"
    job["message"] = f"Job entrypoint command failed with exit code {code}" if code else "done"


class Handler(BaseHTTPRequestHandler):
    def answer(self, status: int, body: Any = b"") -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self) -> None:
        self.route("GET", b"")

    def do_PUT(self) -> None:
        self.route("PUT", self.body())

    def do_POST(self) -> None:
        self.route("POST", self.body())

    def route(self, method: str, body: bytes) -> None:
        if TOKEN and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, b"Unauthorized")
        if len(body) > MAX_BODY_BYTES:
            return self.answer(413, b"Maximum request body size exceeded")
        url = urlsplit(self.path)
        parts = url.path.strip("/").split("/")
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if parts == ["api", "version"]:
            return self.answer(200, {"version": "4", "ray_version": "2.60.0"})
        if parts[:3] == ["api", "packages", "gcs"]:
            return self.package(method, PACKAGES / parts[3], body)
        if parts[:3] == ["api", "v0", "logs"]:
            return self.logs(parts[3:], query)
        if parts == ["api", "jobs"] and method == "POST":
            return self.submit(json.loads(body))
        return self.job(parts[2], parts[3:])

    def package(self, method: str, path: Path, body: bytes) -> None:
        if method == "PUT":
            path.write_bytes(body)
            return self.answer(200)
        return self.answer(200 if path.exists() else 404)

    def submit(self, request: dict[str, Any]) -> None:
        name = request["submission_id"]
        if name in JOBS:
            return self.answer(400, f"ValueError: Job with submission_id {name} exists".encode())
        JOBS[name] = {"status": "PENDING", "request": request, "stopped": False, "message": ""}
        (FOLDER / f"{name}.json").write_text(json.dumps(request))
        threading.Thread(target=run, args=[name], daemon=True).start()
        return self.answer(200, {"submission_id": name})

    def job(self, name: str, rest: list[str]) -> None:
        job = JOBS.get(name)
        if job is None:
            return self.answer(404, b"Job does not exist")
        if rest == ["logs"]:
            return self.answer(200, {"logs": (LOGS / f"job-driver-{name}.log").read_text()})
        if rest == ["stop"]:
            job["stopped"] = True
            if "pid" in job:
                os.killpg(job["pid"], signal.SIGTERM)
            return self.answer(200, {"stopped": True})
        shown = {key: value for key, value in job.items() if key not in ("request", "stopped")}
        return self.answer(200, shown)

    def logs(self, rest: list[str], query: dict[str, str]) -> None:
        if query.get("node_id") != NODE:
            return self.answer(500, b"No such node")
        if rest == ["file"]:
            path = LOGS / query["filename"]
            assert query["lines"] == "-1"
            return self.answer(200, path.read_bytes()) if path.is_file() else self.answer(500)
        names = [
            f"{path.relative_to(LOGS)}{'/' if path.is_dir() else ''}"
            for path in LOGS.glob(query["glob"])
        ]
        return self.answer(200, {"result": True, "data": {"result": {"internal": names}}})

    def log_message(self, *_arguments: object) -> None:
        pass


if __name__ == "__main__":
    for each in (LOGS, PACKAGES, WORK):
        each.mkdir(parents=True, exist_ok=True)
    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
