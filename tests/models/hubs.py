"""A stand-in of the Hugging Face Hub on this machine, for the real client."""

from __future__ import annotations

import json
import re
import threading
import time
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub:
    """Answers as the Hub does for models kept in memory, and remembers what it was asked."""

    def __init__(self):
        self.models = {}
        self.gated = set()
        self.down = False
        self.asked = []
        # Bytes per second of file contents, after how many a connection breaks or waits until
        # `hold_at` is None, and those sent.
        self.pace = None
        self.cut_at = None
        self.hold_at = None
        self.sent = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                outer.answer(self, body=False)

            def do_GET(self):
                outer.answer(self, body=True)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.hold_at = None
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request, *, body):
        self.asked.append(request.path)
        status, headers, content = self._reply(request.path)
        length, asked = len(content), request.headers.get("Range")
        if status == 200 and body and asked:
            begin = int(re.match(r"bytes=(\d+)-", asked)[1])
            headers |= {"Content-Range": f"bytes {begin}-{length - 1}/{length}"}
            status, content = 206, content[begin:]
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            request.send_header(name, value)
        request.end_headers()
        if body:
            self._send(request, content, is_file="/resolve/" in request.path)

    def _send(self, request, content, *, is_file):
        """Send the content, in pieces when there is a pace; break off where a test wants it."""
        size = len(content) if self.pace is None or not is_file else max(1, self.pace // 20)
        for begin in range(0, len(content), size or 1):
            piece = content[begin : begin + size]
            if is_file and self.cut_at is not None and self.sent + len(piece) > self.cut_at:
                request.wfile.write(piece[: self.cut_at - self.sent])
                self.sent, self.cut_at = self.cut_at, None
                request.close_connection = True
                return
            if is_file and self.hold_at is not None and self.sent + len(piece) > self.hold_at:
                while self.hold_at is not None:
                    time.sleep(0.05)
                request.close_connection = True
                return
            try:
                request.wfile.write(piece)
            except OSError:  # the client has gone
                return
            self.sent += len(piece) if is_file else 0
            if size < len(content):
                request.wfile.flush()
                time.sleep(0.05)

    def _reply(self, path):
        if self.down:
            return 503, {}, b"busy"
        if listed := re.match(r"/api/models/([\w./-]+)", path):
            return self._listing(listed[1])
        found = re.fullmatch(r"/([\w./-]+)/resolve/\w+/([\w.-]+)", path.split("?")[0])
        assert found, path
        if found[1] in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        content = self.models[found[1]][found[2]]
        return 200, {"ETag": f'"{sha1(content).hexdigest()}"', "X-Repo-Commit": "a" * 40}, content

    def _listing(self, name):
        if name not in self.models:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        files = [{"rfilename": n, "size": len(c)} for n, c in self.models[name].items()]
        tags = ["license:apache-2.0"]
        response = {"id": name, "sha": "a" * 40, "siblings": files, "tags": tags, "private": False}
        response["safetensors"] = {"parameters": {"BF16": 777}, "total": 777}
        return 200, {"Content-Type": "application/json"}, json.dumps(response).encode()
