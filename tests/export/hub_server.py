"""A stand-in of the Hugging Face Hub that takes uploads, for the real client."""

from __future__ import annotations

import base64
import json
import re
import threading
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_" + "a" * 34
LARGE = (".safetensors", ".gguf")


class UploadHub:
    """Keeps repositories in memory: their files, whether they are private, their commits.

    `statuses` are answered instead, by the beginning of the path; `break_after` is the number of
    large files after which uploads break.
    """

    def __init__(self):
        self.files, self.private, self.commits = {}, {}, {}
        self.stored, self.uploads = {}, []
        self.statuses = {}
        self.break_after = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def do_POST(self):
                outer.answer(self)

            def do_PUT(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def add(self, name, *, private=True, **files):
        self.files[name], self.private[name], self.commits[name] = dict(files), private, []

    def answer(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        status, reply = self._reply(request, request.path.split("?")[0], body)
        content = json.dumps(reply).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def _reply(self, request, path, body):
        for start, status in self.statuses.items():
            if path.startswith(start):
                return status, {"error": "refused"}
        if path.startswith("/lfs/"):
            return self._store(path.removeprefix("/lfs/"), body)
        return self._answer_client(request, path, body)

    def _answer_client(self, request, path, body):
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {"error": "Invalid credentials"}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        found = re.match(r"/(?:api/models/)?([\w.-]+/[\w-]+?)(?:\.git/info/lfs/objects|/|$)", path)
        name, rest = found[1], path[found.end() :].strip("/")
        if name not in self.files:
            return 404, {"error": "Repository not found"}
        if not rest or rest.startswith("revision"):
            return 200, {"id": name, "private": self.private[name], "sha": "b" * 40, "siblings": []}
        if rest.startswith("preupload"):
            return 200, {"files": [self._mode(name, file) for file in json.loads(body)["files"]]}
        if rest.endswith("batch"):
            return 200, {"objects": [self._action(each) for each in json.loads(body)["objects"]]}
        assert rest.startswith("commit"), path
        return self._commit(name, [json.loads(line) for line in body.splitlines()])

    def _create(self, asked):
        name = f"{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.url}/{name}"}
        if name in self.files:
            return 409, url
        self.add(name, private=asked.get("visibility") == "private")
        return 200, url

    def _mode(self, name, file):
        path, known = file["path"], self.files[name].get(file["path"])
        is_large = path.endswith(LARGE)
        oid = None
        if known is not None:
            blob = b"blob %d\0" % len(known) + known
            oid = sha256(known).hexdigest() if is_large else sha1(blob).hexdigest()
        mode = "lfs" if is_large else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid}

    def _action(self, each):
        if each["oid"] in self.stored:
            return each
        return each | {"actions": {"upload": {"href": f"{self.url}/lfs/{each['oid']}"}}}

    def _store(self, oid, content):
        if self.break_after is not None and len(self.uploads) >= self.break_after:
            return 403, {"error": "broken"}
        assert sha256(content).hexdigest() == oid
        self.uploads.append(oid)
        self.stored[oid] = content
        return 200, {}

    def _commit(self, name, lines):
        for line in lines[1:]:
            value = line["value"]
            content = (
                self.stored[value["oid"]]
                if line["key"] == "lfsFile"
                else base64.b64decode(value["content"])
            )
            self.files[name][value["path"]] = content
        self.commits[name].append(sorted(line["value"]["path"] for line in lines[1:]))
        return 200, {"commitUrl": f"{self.url}/{name}/commit/1", "commitOid": "c" * 40}
