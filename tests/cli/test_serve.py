"""`modelforge serve` as a process of its own, with llama.cpp, until Ctrl+C or a kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from modelforge.cli.main import main
from modelforge.paths import Home
from tests.serving.conftest import make_export, wait_for
from tests.serving.test_openai_client import as_gguf

ROOT = Path(__file__).resolve().parents[2]
KEY = "a-key-of-my-own-1234"
START_S = 120.0
# The background jobs of a shell, and their children, begin with SIGINT ignored.
COMMAND = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('modelforge', run_name='__main__')"
)


class Served:
    """The command, its output so far, and its processes."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.home = Home(folder / "home")
        as_gguf(self.home, None)
        self.output = folder / "output"
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, "serve", "one", "--port", "0",
                 "--home", str(self.home.root), *arguments],
                cwd=ROOT, stdout=file, stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            )  # fmt: skip
        self.children: list[psutil.Process] = []

    @property
    def text(self) -> str:
        return self.output.read_text("utf-8")

    def wait(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + START_S
        while not (found := re.search(pattern, self.text)):
            assert self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.1)
        self.children = psutil.Process(self.process.pid).children(recursive=True)
        return found

    def ask(self, address: str, key: str) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
        headers = {"authorization": f"Bearer {key}"}
        url = f"{address}/chat/completions"
        return httpx.post(url, json=body, headers=headers, timeout=START_S)


@pytest.fixture
def served(tmp_path):
    opened: list[Served] = []

    def start(*arguments: str, **environment: str) -> Served:
        opened.append(Served(tmp_path / str(len(opened)), *arguments, **environment))
        return opened[-1]

    (tmp_path / "0").mkdir()
    yield start
    for each in opened:
        for process in [*each.children, each.process]:
            if isinstance(process, psutil.Process) or process.poll() is None:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
        each.process.wait()


@pytest.mark.torch
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl+C is sent as a signal")
def test_it_serves_until_ctrl_c(served):
    run = served()
    run.wait("Ctrl\\+C stops")
    address = re.search(r"Address: +(\S+)", run.text)[1]
    key = re.search(r"API key: +(\S+)", run.text)[1]
    assert run.ask(address, key).status_code == 200
    assert run.ask(address, "wrong").status_code == 401
    assert f"curl {address}/chat/completions" in run.text
    assert run.children, "the model has a process of its own"
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(20) == 130
    assert not psutil.wait_procs(run.children, 10)[1]
    assert not run.home.serving.exists()
    assert not run.home.lease.exists()


@pytest.mark.torch
def test_a_kill_leaves_no_process_behind(served):
    run = served("--json", "--api-key-env", "MY_KEY", MY_KEY=KEY)
    run.wait(r'"curl": .*\n\}')
    shown = json.loads(run.text)
    assert (shown["id"], shown["state"], shown["model"]) == ("one", "on", "captain-two")
    assert KEY not in run.text, "a given key is not repeated"
    assert run.ask(shown["address"], KEY).status_code == 200
    assert run.children
    for child in run.children:
        assert "MY_KEY" not in child.environ()
    run.process.kill()
    assert not psutil.wait_procs(run.children, 20)[1]
    with pytest.raises(httpx.TransportError):
        run.ask(shown["address"], KEY)


def test_a_key_that_is_not_set_is_named(tmp_path, capsys):
    assert main(["serve", "one", "--api-key-env", "NO_SUCH_KEY", "--home", str(tmp_path)]) == 2
    assert "NO_SUCH_KEY is not set" in capsys.readouterr().err


def test_what_cannot_be_served_is_named(tmp_path, capsys):
    home = Home(tmp_path / "home")
    make_export(home, "bad", lambda _files: None, result="failed", format="gguf")
    assert main(["serve", "bad", "--home", str(home.root), "--json"]) == 2
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert "not usable" in problem["what"]
    wait_for(lambda: not home.serving.exists(), "nothing is recorded")


def test_mcp_without_its_package_names_the_remedy(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("modelforge.cli.serve.find_spec", lambda _name: None)
    assert main(["mcp", "--home", str(tmp_path)]) == 1
    assert "setup --with mcp" in capsys.readouterr().err
