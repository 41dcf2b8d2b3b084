"""Shared by the benchmarks: a server on a free port, a browser, statistics and stored results."""

from __future__ import annotations

import csv
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.events import EventRecord
from modelforge.runs.layout import RunFolder
from modelforge.setup.browser import find_browser
from modelforge.units import MIB

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
CONDITIONS = RESULTS / "conditions.json"
EXIT_S = 60.0
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A running ModelForge server: address, process, and Unix time of its start."""

    url: str
    process: subprocess.Popen[bytes]
    started: float

    def get(self, path: str) -> Any:
        """Return the JSON of a GET."""
        with urllib.request.urlopen(self.url + path, timeout=60) as response:
            return json.load(response)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Return the JSON of a POST."""
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)


@contextmanager
def serving(home: Path, wait_s: float = 60.0) -> Iterator[Server]:
    """Start `python -m ui` for `home` and yield it once it serves a page."""
    port = free_port()
    started = time.time()
    with (home / "bench-server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ui", "--port", str(port), "--home", str(home), "--no-browser"],
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )
    server = Server(f"http://127.0.0.1:{port}", process, started)
    try:
        until(lambda: _answers(server.url), wait_s, "the server did not answer")
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def until(condition: Any, limit_s: float, message: str) -> Any:
    """Wait until `condition()` is true and return its value; raise after `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise TimeoutError(message)


@contextmanager
def browsing() -> Iterator[Any]:
    """Yield a Playwright page in a real Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=CHROMIUM_FLAGS)
        try:
            yield browser.new_page(viewport={"width": 1280, "height": 900})
        finally:
            browser.close()


def starter_home() -> Path:
    """Return a home with the converted starter model, which is made on the first call."""
    base = Path(os.environ.get("MODELFORGE_BENCH_HOME", ROOT / ".venv" / "bench-home"))
    base.mkdir(parents=True, exist_ok=True)
    if not (base / "models" / "starter" / "config.json").exists():
        command = [
            sys.executable,
            "-m",
            "modelforge.train.tools.convert_starter",
            "--home",
            str(base),
        ]
        subprocess.run(command, cwd=ROOT, check=True)
    return base


def own_home(folder: Path) -> Home:
    """Return a new home in `folder` that shares the starter model."""
    home = Home(folder)
    home.starter_model.parent.mkdir(parents=True)
    home.starter_model.symlink_to(starter_home() / "models" / "starter")
    return home


def trained(home: Home, settings: dict[str, Any]) -> list[EventRecord]:
    """Train once and return the events of the run; raises RuntimeError when it does not finish."""
    forge = Forge(home)
    try:
        run = forge.runs.start(Layer("bench", settings))
        while not forge.runs.state(run).is_over:
            time.sleep(0.2)
        events, _ = forge.runs.events(run)
        if events[-1].kind != "finished":
            raise RuntimeError(forge.runs.log(run))
        # The worker removes its temporary files after the last event.
        exited = RunFolder(home.runs / run).exit
        until(exited.is_file, EXIT_S, f"the worker of {run} did not end")
        return events
    finally:
        forge.close()


def wait_for_run(server: Server, run_id: str, limit_s: float = 900.0) -> dict[str, Any]:
    """Return a run once it is over."""
    over = {"finished", "stopped", "failed", "lost"}

    def ended() -> dict[str, Any] | None:
        run: dict[str, Any] = server.get(f"/api/runs/{run_id}")
        time.sleep(0.5)
        return run if run["state"] in over else None

    run: dict[str, Any] = until(ended, limit_s, f"{run_id} did not end")
    return run


def events_of(home: Path, run_id: str) -> list[dict[str, Any]]:
    """Return all events of a run from its folder, each with kind, time and data in one dict."""
    lines = (home / "runs" / run_id / "events.jsonl").read_text("utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    return [{"kind": event["kind"], "t": event["t"], **event["data"]} for event in events]


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process in MiB, without its children."""
    return float(psutil.Process(pid).memory_info().rss / MIB)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the percentile of the values at `share` (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def keep(name: str, rows: Sequence[dict[str, Any]]) -> Path:
    """Write raw figures to results/NAME.csv."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


def kept(name: str) -> list[dict[str, Any]]:
    """Return the raw figures of results/NAME.csv with numbers converted; empty if not measured."""
    path = RESULTS / f"{name}.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{key: _number(value) for key, value in row.items()} for row in rows]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


@contextmanager
def recorded(name: str) -> Iterator[None]:
    """Record date, machine and load of a benchmark."""
    before = conditions()
    yield
    after = _load()
    records = measured_on() | {
        name: f"{datetime.now(UTC):%Y-%m-%d} on {before}; after: load average {after}"
    }
    CONDITIONS.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def measured_on() -> dict[str, str]:
    """Return date and machine of the last run of each benchmark."""
    if not CONDITIONS.exists():
        return {}
    records: dict[str, str] = json.loads(CONDITIONS.read_text("utf-8"))
    return records


def titled(title: str, name: str, lines: Sequence[str]) -> list[str]:
    """Return the section of a benchmark for docs/performance.md; empty without lines."""
    if not lines:
        return []
    date = measured_on().get(name)
    return [f"## {title}", "", *([f"Measured {date}.", ""] if date else []), *lines, ""]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return "median (minimum to maximum)"."""
    median = statistics.median(values)
    return f"{median:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def conditions() -> str:
    """Return versions, processor and load of this machine."""
    packages = ("torch", "transformers", "trl", "peft", "gradio")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"Python {platform.python_version()}, {versions}; {psutil.cpu_count()} cores "
        f"({platform.processor() or platform.machine()}), load average {_load()}"
    )


def _load() -> str:
    if not hasattr(os, "getloadavg"):
        return "unknown"
    return ", ".join(f"{value:.1f}" for value in os.getloadavg())
