"""The whole way without a browser: a contract-only recipe, and a server killed in mid-run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parent.parent
COLOURS = ["red", "blue", "green", "amber", "violet", "teal", "grey", "white", "black", "pink"]


@pytest.fixture
def chats(tmp_path):
    """A `messages` file of our own: ten short chats."""
    path = tmp_path / "chats.jsonl"
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Which paint is number {number}?"},
                {"role": "assistant", "content": f"Number {number} is {colour}."},
            ]
        }
        for number, colour in enumerate(COLOURS, start=1)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return path


def body(dataset: Path, **more: Any) -> dict[str, Any]:
    return {
        "task": "text-generation",
        "model_name": "starter",
        "dataset": str(dataset),
        "compute_specs": "low_end",
    } | more


def test_a_contract_only_recipe_leaves_an_adapter_that_plain_peft_loads(
    chats, home_with_starter, tmp_path
):
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(body(chats)), "utf-8")
    command = [sys.executable, "-m", "modelforge", "train", str(recipe), "--json"]
    run = subprocess.run(
        [*command, "--home", str(home_with_starter)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert run.returncode == 0, run.stderr + run.stdout
    view = json.loads(run.stdout)
    assert view["state"] == "finished"
    assert view["plan"]["quantization"] == "none"  # 4 bits are the default of NVIDIA GPUs

    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(home_with_starter / "models" / "starter")
    tuned = PeftModel.from_pretrained(base, home_with_starter / "runs" / view["id"] / "output")
    learned = [p for name, p in tuned.named_parameters() if "lora_B" in name]
    assert learned
    assert any(float(p.detach().abs().sum()) > 0 for p in learned)


class Server:
    """`python -m ui` for one home, which may be killed and started again."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.home / "server.log").open("ab") as log:
            arguments = ["--port", str(self.port), "--home", str(self.home), "--no-browser"]
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ui", *arguments], cwd=ROOT, stdout=log, stderr=log
            )
        self.until(lambda: self.call("GET", "/api/health"), 60, "the server answers")

    def call(self, verb: str, path: str, content: object = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=None if content is None else json.dumps(content).encode(),
            headers={"Content-Type": "application/json"},
            method=verb,
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except ConnectionError:
            return None
        except urllib.error.URLError as error:
            if isinstance(error, urllib.error.HTTPError):
                raise AssertionError(error.read().decode()) from error
            return None

    def until(self, holds: Any, limit_s: float, hope: str) -> Any:
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if value := holds():
                return value
            time.sleep(0.1)
        log = (self.home / "server.log").read_text("utf-8")[-2000:]
        pytest.fail(f"within {limit_s} s it never came true that {hope}\n{log}")

    def kill(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)


@pytest.fixture
def server(home_with_starter):
    server = Server(home_with_starter)
    yield server
    server.end()


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
def test_a_killed_server_finds_its_run_again_and_can_stop_it(server, chats):
    server.start()
    asked = body(chats, use_4bit=False, max_steps=500, gradient_accumulation_steps=1)
    run_id = server.call("POST", "/api/runs", asked)["id"]
    path = server.home / "runs" / run_id / "events.jsonl"

    def updates() -> int:
        return path.read_text("utf-8").count('"step"') if path.exists() else 0

    server.until(lambda: updates() >= 3, 120, "three updates are done")
    server.kill()
    seen = updates()
    server.until(lambda: updates() > seen, 60, "the run goes on without a server")

    server.start()
    run = server.call("GET", f"/api/runs/{run_id}")
    assert run["state"] == "running"
    stopped = server.call("POST", f"/api/runs/{run_id}/stop", {"keep": True})
    assert stopped["id"] == run_id
    server.until(
        lambda: server.call("GET", f"/api/runs/{run_id}")["state"] == "stopped",
        60,
        "the run is stopped",
    )
    numbers = [json.loads(line)["n"] for line in path.read_text("utf-8").splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert (server.home / "runs" / run_id / "output" / "adapter_model.safetensors").exists()
