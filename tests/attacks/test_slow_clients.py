"""A real server and clients that hold its connections and threads: others are still answered."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
# The limits of the server, shortened, and few files that it may open.
START = """
import resource, sys
from modelforge.security import body_limit, connections
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
connections.BoundedProtocol.header_timeout_s = 2.0
body_limit.PATIENCE_S = 3.0
from ui.__main__ import _exit, main
_exit(main(sys.argv[1:]))
"""
PASSWORD = "correct horse battery"
PATIENCE_S = 90.0

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the limits are those of POSIX")


class Server:
    def __init__(self, folder: Path) -> None:
        self.home, self.output = folder / "home", folder / "output"
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    START,
                    "--home",
                    str(self.home),
                    "--port",
                    "0",
                    "--no-browser",
                ],
                cwd=ROOT,
                env={**os.environ, "MODELFORGE_PASSWORD": PASSWORD, "PYTHONPATH": str(ROOT)},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", self.output.read_text())):
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.1)
        self.port = int(found[1])

    def connect(self, data: bytes) -> socket.socket:
        """Return a connection that has sent this, and nothing more."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.sendall(data)
        return connection

    def answers(self) -> bool:
        """Return whether another client gets an answer."""
        address = f"http://127.0.0.1:{self.port}/api/health"
        return httpx.get(address, timeout=20.0).status_code == 200


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("slow"))
    yield server
    if server.process.poll() is None:
        server.process.kill()
    server.process.wait()


def is_closed(connection: socket.socket) -> bool:
    """Wait until the server has closed the connection; ignore its last answer."""
    connection.settimeout(30)
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(
    "data", [b"", b"GET / HTTP/1.1\r\nX: ", b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\n"]
)
def test_a_request_without_an_end_is_closed(server, data):
    with server.connect(data) as connection:
        assert is_closed(connection)


def test_a_head_that_drips_is_closed(server):
    with server.connect(b"GET / HTTP/1.1\r\n") as connection:
        deadline = time.monotonic() + 30
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:
                connection.sendall(b"X-A: b\r\n")
                time.sleep(0.2)
        assert time.monotonic() < deadline


def test_half_open_connections_do_not_keep_others_out(server):
    held = []
    try:
        for _ in range(300):
            held.append(server.connect(b"GET / HTTP/1.1\r\nX: "))
        assert server.answers()
    finally:
        for connection in held:
            connection.close()
    assert server.output.read_text().count("Traceback") == 0
    assert len(server.output.read_text()) < 5000


def test_slow_uploads_do_not_keep_others_out(server):
    head = (
        b"POST /api/datasets?filename=a.jsonl HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Length: 1000000\r\n\r\n{"
    )
    held = [server.connect(head) for _ in range(45)]
    try:
        assert server.answers()
        assert is_closed(held[0])
    finally:
        for connection in held:
            connection.close()


def test_a_slow_body_of_any_route_is_answered(server):
    head = b"POST /api/preflight HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{"
    with server.connect(head) as connection:
        assert b" 408 " in connection.recv(4096)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n" * 10_000,
    ],
)  # fmt: skip
def test_a_malformed_request_is_refused_in_silence(server, data):
    before = server.output.read_text()
    with server.connect(b"") as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        assert is_closed(connection)
    assert server.answers()
    assert server.output.read_text() == before


def test_the_home_and_its_files_are_private(server):
    with server.connect(
        b"POST /api/datasets?filename=a.jsonl HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        b"Content-Length: 28\r\n\r\n" + b'{"input":"a","output":"b"} \n'
    ) as connection:
        assert b" 201 " in connection.recv(4096)
    for path in (server.home, *server.home.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_the_server_ends_while_a_thread_is_stuck(server):
    # An upload that never ends occupies a thread.
    held = server.connect(
        b"POST /api/datasets?filename=b.jsonl HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Length: 1000000\r\n\r\n{"
    )
    deadline = time.monotonic() + 30
    while not list((server.home / "uploads").glob(".staged-*")):
        assert time.monotonic() < deadline, "the upload did not begin"
        time.sleep(0.02)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    held.close()
    assert "Traceback" not in server.output.read_text()
