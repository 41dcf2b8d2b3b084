"""A stand-in for the Hub: its REST interface of Jobs, which really run; buckets are folders."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from huggingface_hub import HfApi

TOKEN = "hf_stand-in-token"
HARDWARE = [
    {"name": "cpu-basic", "prettyName": "CPU Basic", "cpu": "2 vCPU", "ram": "16 GB",
     "ephemeralStorage": "20 GB", "accelerator": None, "unitCostMicroUSD": 167,
     "unitCostUSD": 0.6, "unitLabel": "minute"},
    {"name": "a10g-small", "prettyName": "A10G", "cpu": "4 vCPU", "ram": "15 GB",
     "ephemeralStorage": "110 GB", "unitCostMicroUSD": 16667, "unitCostUSD": 0.016667,
     "unitLabel": "minute",
     "accelerator": {"type": "gpu", "model": "A10G", "quantity": "1", "vram": "24 GB",
                     "manufacturer": "Nvidia"}},
]  # fmt: skip


class Hub:
    """The server. `home` stands for the disk of the jobs, `bucket` for `me/modelforge`."""

    def __init__(self, folder: Path, python: str) -> None:
        self.bucket, self.home, self.python = folder / "bucket", folder / "disk", python
        self.home.mkdir(parents=True)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.specs: list[dict[str, Any]] = []
        self.refuses = 0
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self, "GET")

            def do_POST(self) -> None:
                hub.answer(self, "POST")

            def log_message(self, *_arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        for job in self.jobs.values():
            if job["process"] is not None and job["process"].poll() is None:
                job["process"].kill()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, method: str) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        body = json.loads(request.rfile.read(length) or b"{}")
        status, answer = 200, {}
        if self.refuses:
            status, answer = self.refuses, {"error": "No more credit"}
        elif request.headers.get("Authorization") != f"Bearer {TOKEN}":
            status, answer = 401, {"error": "Invalid username or password."}
        else:
            parts = request.path.partition("?")[0].strip("/").split("/")
            status, answer = self.route(method, parts, body)
        content = json.dumps(answer).encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(content)))
        request.send_header("Content-Type", "application/json")
        request.end_headers()
        request.wfile.write(content)

    def route(self, method: str, parts: list[str], body: dict[str, Any]) -> tuple[int, Any]:
        if parts == ["api", "whoami-v2"]:
            return 200, {"name": "me"}
        if parts == ["api", "jobs", "hardware"]:
            return 200, HARDWARE
        if parts == ["api", "jobs", "me"]:
            if method == "POST":
                return 200, self.start(body)
            return 200, [self.shown(number) for number in reversed(self.jobs)]
        if parts[3] not in self.jobs:
            return 404, {"error": "Job not found"}
        if parts[4:] == ["cancel"]:
            job = self.jobs[parts[3]]
            job["cancelled"] = True
            job["process"].terminate()
        return 200, self.shown(parts[3])

    def start(self, spec: dict[str, Any]) -> dict[str, Any]:
        number = f"job{len(self.jobs) + 1}"
        self.specs.append(spec)
        (volume,) = spec["volumes"]
        assert (volume["type"], volume["source"]) == ("bucket", "me/modelforge")
        places = {volume["mountPath"]: str(self.bucket), "/root/modelforge": str(self.home)}
        command = [place(word, places) for word in spec["command"]]
        assert command[0] == "python"
        # The environment of the job's image has been made.
        command[command.index("")] = self.python
        with (self.home / f"{number}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *command[1:]], env=os.environ | spec["environment"], stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        self.jobs[number] = {"spec": spec, "process": process, "began": time.time(),
                             "cancelled": False}  # fmt: skip
        return self.shown(number)

    def shown(self, number: str) -> dict[str, Any]:
        job = self.jobs[number]
        code = job["process"].poll()
        stage = "RUNNING" if code is None else "COMPLETED" if code == 0 else "ERROR"
        stage = "CANCELED" if job["cancelled"] and code is not None else stage
        message = "The job was killed: out of memory" if stage == "ERROR" else None
        return {
            "id": number,
            "createdAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "status": {"stage": stage, "message": message},
            "labels": job["spec"].get("labels"),
            "durations": {"schedulingSecs": 1, "runningSecs": 100, "totalSecs": 101},
            "owner": {"id": "1", "name": "me", "type": "user"},
        }


def place(word: str, places: dict[str, str]) -> str:
    for there, here in places.items():
        if word == there or word.startswith(f"{there}/"):
            return here + word.removeprefix(there)
    return word


class Api(HfApi):
    """The client of the Hub; Jobs go over HTTP, and the files of buckets are copied."""

    bucket: Path

    def create_bucket(self, *_arguments: Any, **_options: Any) -> None:
        self.bucket.mkdir(exist_ok=True)

    def batch_bucket_files(self, _bucket: str, *, add: Any = (), delete: Any = ()) -> None:
        for source, name in add or ():
            target = self.bucket / name
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = target.with_name(f".{target.name}.draft")
            draft.write_bytes(source if isinstance(source, bytes) else Path(source).read_bytes())
            draft.replace(target)
        for name in delete or ():
            (self.bucket / name).unlink()

    def download_bucket_files(self, _bucket: str, files: Any) -> None:
        for name, target in files:
            if (self.bucket / name).is_file():
                shutil.copyfile(self.bucket / name, target)

    def list_bucket_tree(self, _bucket: str, prefix: str, *, recursive: bool) -> Any:
        assert recursive
        for path in sorted(self.bucket.rglob("*")):
            name = path.relative_to(self.bucket).as_posix()
            if path.is_file() and name.startswith(prefix):
                yield SimpleNamespace(type="file", path=name)
