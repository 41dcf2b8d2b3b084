"""A real server on a free port, and a Chromium that may access nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelforge.setup.browser import find_browser

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@dataclass
class Server:
    """A running server: its address, its process and its home."""

    url: str
    process: subprocess.Popen[str]
    home: Path

    def kill(self) -> None:
        """Kill it like a crash."""
        self.process.kill()
        self.process.wait()


def started(command: list[str], home: Path, pace_s: float, **more: str) -> Server:
    """Start a server, with `more` in its environment, and wait until it prints its address."""
    log = home.parent / f"server-{time.monotonic_ns()}.log"
    environ = {
        **os.environ, **more, "MODELFORGE_ACTOR_PACE": str(pace_s), "PYTHONUNBUFFERED": "1"
    }  # fmt: skip
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environ, stdout=file,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            return Server(found[0], process, home)
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"the server did not print its address: {log.read_text()}")


@pytest.fixture
def servers() -> Iterator[Callable[..., Server]]:
    """Start servers that end with the test; with `real` their workers train.

    `machine` overrides facts about the computer; `worker` names another stand-in worker.
    """
    running: list[Server] = []

    def start(
        home: Path,
        *,
        port: int = 0,
        pace_s: float = 0.05,
        real: bool = False,
        machine: dict[str, Any] | None = None,
        worker: str = "",
    ) -> Server:
        stand_ins = ["tests/browser/serving.py", str(home), str(port)]
        ours = ["-m", "ui", "--home", str(home), "--port", str(port), "--no-browser"]
        more = {"MODELFORGE_TEST_REAL": "1"} if real else {}
        if worker:
            more["MODELFORGE_TEST_WORKER"] = worker
        if machine:
            more["MODELFORGE_TEST_MACHINE"] = json.dumps(machine)
        command = ours if real and machine is None else stand_ins
        running.append(started(command, home, pace_s, **more))
        return running[-1]

    yield start
    for server in running:
        server.process.terminate()
        try:
            server.process.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()


@pytest.fixture(scope="session")
def chromium():
    """Return one browser for the session: the installed one, or else Playwright's own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium):
    """Open pages; errors and requests to other machines fail the test."""
    contexts, wrong = [], []

    def watch(page) -> None:
        page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
        page.on("request", lambda asked: _is_ours(asked.url) or wrong.append(f"out: {asked.url}"))
        page.on(
            "response",
            lambda came: came.status < 500 or wrong.append(f"{came.status}: {came.url}"),
        )

    def visit(url: str, *, width: int = 1280, height: int = 900, shade: str = "light"):
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=shade
        )
        context.set_default_timeout(20_000)
        context.on("page", watch)
        contexts.append(context)
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector("[data-usable]")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not wrong, wrong


@pytest.fixture
def held_script():
    """Return a function that keeps a script from a page until the one it returns is called."""

    def hold(page: Any, name: str) -> Callable[[], None]:
        held: list[Any] = []
        is_held = True

        def answer(route: Any) -> None:
            held.append(route) if is_held else route.continue_()

        def release() -> None:
            nonlocal is_held
            is_held = False
            for route in held:
                route.continue_()

        page.route(f"**/js/{name}.js", answer)
        return release

    return hold


def _is_ours(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))
