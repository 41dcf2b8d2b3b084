"""A server with the parts of S3 and Google Cloud Storage that reading needs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

KEY = "AKIAEXAMPLE"
PUBLIC = "public-bucket"


class StorageServer(ThreadingHTTPServer):
    """Serves `objects`, contents by bucket and key; those of PUBLIC need no key."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.breaks_after = -1

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serve_storage() -> Iterator[StorageServer]:
    server = StorageServer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: StorageServer

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_args: Any) -> None:
        pass

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.server.requests.append(self.path)
        if parts.path.startswith("/storage/v1/b/"):
            self._answer_google(parts.path.removeprefix("/storage/v1/b/"), query)
            return
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        objects = self.server.objects.get(bucket)
        if objects is None:
            self._send(404, _error("NoSuchBucket"))
        elif bucket != PUBLIC and KEY not in self.headers.get("Authorization", ""):
            self._send(403, _error("AccessDenied"))
        elif "list-type" in query:
            self._send(200, _listing(bucket, objects, query.get("prefix", "")))
        elif key in objects:
            self._send_range(objects[key])
        else:
            self._send(404, _error("NoSuchKey"))

    def _answer_google(self, path: str, query: dict[str, str]) -> None:
        bucket, _, rest = path.partition("/o")
        objects, key = self.server.objects.get(bucket), unquote(rest.lstrip("/"))
        if objects is None or (key and key not in objects):
            self._send(404, b'{"error": {"code": 404, "message": "not here"}}')
        elif query.get("alt") == "media":
            self._send_range(objects[key])
        elif key:
            self._send(200, json.dumps(_item(bucket, key, objects[key])).encode())
        else:
            prefix = query.get("prefix", "")
            items = [_item(bucket, name, text) for name, text in objects.items()]
            found = [item for item in items if item["name"].startswith(prefix)]
            reply = {"kind": "storage#objects", "items": found}
            self._send(200, json.dumps(reply).encode())

    def _send_range(self, content: bytes) -> None:
        first, last = 0, len(content) - 1
        wanted = self.headers.get("Range")
        if wanted:
            begin, _, end = wanted.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(int(end or last), last)
        headers = {"Content-Range": f"bytes {first}-{last}/{len(content)}"} if wanted else {}
        self._send(206 if wanted else 200, content[first : last + 1], headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"0"')
        self.send_header("Last-Modified", "Sun, 29 Nov 2026 09:00:00 GMT")
        self.end_headers()
        if self.command == "GET":
            limit = self.server.breaks_after
            self.wfile.write(body if limit < 0 else body[:limit])


def _item(bucket: str, name: str, content: bytes) -> dict[str, str]:
    size = str(len(content))
    return {
        "kind": "storage#object",
        "bucket": bucket,
        "name": name,
        "size": size,
        "generation": "1",
        "updated": "2026-11-29T09:00:00Z",
    }


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>Key {KEY} is wrong.</Message></Error>".encode()


def _listing(bucket: str, objects: dict[str, bytes], prefix: str) -> bytes:
    entries = "".join(
        f"<Contents><Key>{key}</Key><Size>{len(content)}</Size><ETag>0</ETag>"
        "<LastModified>2026-11-29T09:00:00.000Z</LastModified></Contents>"
        for key, content in objects.items()
        if key.startswith(prefix)
    )
    return (
        '<?xml version="1.0"?><ListBucketResult>'
        f"<Name>{bucket}</Name><Prefix>{prefix}</Prefix><IsTruncated>false</IsTruncated>"
        f"{entries}</ListBucketResult>"
    ).encode()
