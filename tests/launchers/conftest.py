"""An sshd of the test's own, a cluster of stand-in programs, and a forge with a tiny model."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from modelforge.forge import Forge
from modelforge.paths import Home
from tests.train.conftest import PAIRS, tiny_model  # noqa: F401  # a fixture

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
LIMIT_S = 90.0
CLUSTER = Path(__file__).parent / "cluster"


class Sshd:
    """A server for this user at a port of its own, which may be ended and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        for name in ("host", "user"):
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(keygen, check=True)
        shutil.copy(folder / "user.pub", folder / "authorized")
        settings = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": folder / "host",
            "AuthorizedKeysFile": folder / "authorized",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "yes",
            "MaxStartups": "100",
        }
        (folder / "sshd_config").write_text(
            "".join(f"{name} {value}\n" for name, value in settings.items())
        )
        key = " ".join((folder / "host.pub").read_text().split()[:2])
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {key}\n")
        self.config = self.client_config("known")
        self.process: subprocess.Popen[bytes] | None = None

    def client_config(self, known: str) -> Path:
        """Return a configuration for ssh that knows the host keys in the file `known`."""
        path = self.folder / f"config-{known}"
        files = {"UserKnownHostsFile": known, "IdentityFile": "user"}
        lines = [f"  {name} {self.folder / file}" for name, file in files.items()]
        path.write_text("\n".join(["Host *", *lines, "  IdentitiesOnly yes", ""]))
        return path

    def start(self) -> None:
        assert SSHD
        files = ["-f", str(self.folder / "sshd_config"), "-E", str(self.folder / "log")]
        self.process = subprocess.Popen([SSHD, "-D", *files])
        until(self._answers, "sshd listens")

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def end(self) -> None:
        """End the server and cut every connection; what runs on its own stays."""
        assert self.process
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if child.name().startswith("sshd"):
                child.kill()
        self.process.kill()
        self.process.wait()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


def until(holds: Callable[[], Any], hope: str, limit_s: float = LIMIT_S) -> Any:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if value := holds():
            return value
        time.sleep(0.1)
    raise AssertionError(f"after {limit_s:.0f} s it is not true that {hope}")


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    if SSHD is None or shutil.which("rsync") is None:
        pytest.skip("sshd or rsync is not installed")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.end()


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    made = Forge(Home(tmp_path / "home"))
    yield made
    for run, _launch in made.runs._supervisor.elsewhere():
        made.runs.stop(run.id, keep=False)
    for process in psutil.process_iter(["cmdline"]):
        if any(str(tmp_path) in word for word in process.info["cmdline"] or ()):
            process.kill()
    made.close()


@pytest.fixture
def recipe(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:  # noqa: F811
    """Settings of a run of 12 steps on a tiny model, with a checkpoint after every second one."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in PAIRS), "utf-8")
    return {
        "task": "text-generation",
        "model_name": str(tiny_model),
        "dataset": str(rows),
        "compute_specs": "low_end",
        "use_4bit": False,
        "eval_split": 0.25,
        "max_steps": 12,
        "eval_steps": 2,
        "trainer": {"save_steps": 2},
    }


@pytest.fixture
def host(forge: Forge, sshd: Sshd, tmp_path: Path) -> str:
    """The name of a target on this computer over ssh, with this environment."""
    options = {"ssh_config": str(sshd.config), "environment": sys.executable}
    forge.targets.add("box", f"ssh:{sshd.address}{tmp_path / 'far'}", options=options)
    found = forge.targets.check("box")
    assert found.problems == []
    return "box"
