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

from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.layout import RunFolder
from modelforge.runs.states import RunState
from tests.train.conftest import PAIRS, tiny_model  # noqa: F401  # a fixture

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
LIMIT_S = 300.0
CLUSTER = Path(__file__).parent / "cluster.py"


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
    yield from _forge(tmp_path)


def _forge(tmp_path: Path, **commands: Any) -> Iterator[Forge]:
    made = Forge(Home(tmp_path / "home"), **commands)
    yield made
    for run, _launch in made.runs._supervisor.elsewhere():
        made.runs.stop(run.id, keep=False)
    for process in psutil.process_iter(["cmdline"]):
        if any(str(tmp_path) in word for word in process.info["cmdline"] or ()):
            process.kill()
    made.close()


@pytest.fixture
def recipe(model: Path, tmp_path: Path) -> dict[str, Any]:
    """Settings of a run of 12 steps, for a stand-in."""
    return _recipe(model, tmp_path)


@pytest.fixture
def real_recipe(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:  # noqa: F811
    """Settings of a run of 12 steps on a tiny model, with a checkpoint after every second one."""
    return _recipe(tiny_model, tmp_path) | {"evaluation": {"samples": 0}}


def _recipe(model: Path, tmp_path: Path) -> dict[str, Any]:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in PAIRS), "utf-8")
    return {
        "task": "text-generation",
        "model_name": str(model),
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


def stand_in_python(path: Path) -> Path:
    """Write a Python whose worker is a stand-in that takes a tenth of a second for a step."""
    actor = Path(__file__).parents[1] / "actors" / "travels.py"
    path.write_text(
        f"#!{sys.executable}\n"
        "import os, sys\n"
        f"python, actor, words = {sys.executable!r}, {str(actor)!r}, sys.argv[1:]\n"
        "if words[:2] == ['-m', 'modelforge.train'] and '--node' in words:\n"
        "    words = [actor.replace('travels', 'travels_along'), words[2]]\n"
        "elif words[:2] == ['-m', 'modelforge.train']:\n"
        "    words = [actor, words[2]]\n"
        "elif words[:2] == ['-m', 'modelforge.launchers.job']:\n"
        "    code = 'import runpy, sys; sys.executable = sys.argv.pop(1); sys.argv.pop(1); '\n"
        "    code += 'sys.argv.pop(1); runpy.run_module(\"modelforge.launchers.job\", '\n"
        "    code += 'run_name=\"__main__\", alter_sys=True)'\n"
        "    words = ['-c', code, __file__, *words]\n"
        "os.execv(python, [python, *words])\n",
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def quick_options(sshd: Sshd, tmp_path: Path) -> dict[str, str]:
    """The options of `host`, with a stand-in for the worker."""
    python = stand_in_python(tmp_path / "python-there")
    return {"ssh_config": str(sshd.config), "environment": str(python)}


@pytest.fixture
def quick_host(
    quick_forge: Forge, sshd: Sshd, quick_options: dict[str, str], tmp_path: Path
) -> str:
    """As `host`, with a stand-in for the worker."""
    place = f"ssh:{sshd.address}{tmp_path / 'far'}"
    quick_forge.targets.add("box", place, options=quick_options)
    found = quick_forge.targets.check("box")
    assert found.problems == []
    return "box"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the jobs of a cluster whose programs are on the PATH."""
    if shutil.which("rsync") is None:
        pytest.skip("rsync is not installed")
    folder, programs = tmp_path / "cluster", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for name in ("sbatch", "squeue", "scancel", "sacct"):
        program = programs / name
        program.write_text(f"#!{sys.executable}\n" + Path(CLUSTER).read_text("utf-8"))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("CLUSTER", str(folder))
    return folder


@pytest.fixture
def quick_cluster(quick_forge: Forge, cluster: Path, tmp_path: Path) -> str:
    """The name of a target on that cluster, with a stand-in for the worker."""
    python = stand_in_python(tmp_path / "python-there")
    place = f"slurm:debug{tmp_path / 'shared'}"
    quick_forge.targets.add("grid", place, options={"environment": str(python), "mem": "4G"})
    found = quick_forge.targets.check("grid")
    assert found.problems == []
    return "grid"


@pytest.fixture
def quick_forge(tmp_path: Path) -> Iterator[Forge]:
    """A forge whose workers here are the stand-in as well."""
    actor = Path(__file__).parents[1] / "actors" / "travels.py"
    yield from _forge(tmp_path, worker=(sys.executable, str(actor)))


def started(forge: Forge, recipe: dict[str, Any], target: str) -> str:
    """Start a run at a target and return its id."""
    return forge.runs.start(Layer("body", recipe), on=target)


def over(forge: Forge, run_id: str) -> RunState:
    """Wait for the end of a run, as a server does, and return its state."""

    def is_over() -> bool:
        forge.tend()
        return forge.runs.state(run_id).is_over

    until(is_over, "the run is over")
    return forge.runs.state(run_id)


def stepped(forge: Forge, run_id: str, step: int) -> None:
    """Wait until a run has done as many steps."""

    def is_there() -> bool:
        forge.tend()
        assert not forge.runs.state(run_id).is_over, forge.runs.log(run_id)
        return forge.runs.view(run_id).step >= step

    until(is_there, f"step {step} is done")


def adapter(folder: RunFolder) -> str:
    return (folder.output / "adapter_model.safetensors").read_text()


def whole(forge: Forge, recipe: dict[str, Any]) -> str:
    """Return the adapter of a run that was not interrupted."""
    run_id = forge.runs.start(Layer("body", recipe))
    assert over(forge, run_id) is RunState.FINISHED
    return adapter(forge.runs.folder(run_id))
