"""The virtual environment: its packages, pip, and processes in it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelforge.setup.errors import CommandError
from modelforge.setup.progress import StageLine, run_watched
from modelforge.setup.torch_build import read_cuda_version

PIP_ENVIRONMENT = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_USER": "0",
    "PIP_ROOT_USER_ACTION": "ignore",
}


@dataclass(frozen=True)
class SetupOptions:
    """Options of a set-up. A torch override stays in force until it is set to `auto`.

    Args:
        renews_extras: install and prove `extras` again if they are installed.
    """

    root: Path
    home: Path
    extras: frozenset[str] = frozenset()
    torch: str | None = None
    renews_extras: bool = False

    @property
    def venv(self) -> Path:
        """The virtual environment."""
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        """The Python of the virtual environment."""
        path = "Scripts/python.exe" if platform.system() == "Windows" else "bin/python"
        return self.venv / path


class VirtualEnvironment:
    """Runs pip and Python in the virtual environment, and reads its packages without them."""

    def __init__(self, options: SetupOptions, log: Path) -> None:
        self.options = options
        self.log = log

    def packages(self) -> dict[str, str]:
        """Return the version of each installed package, by its normalized name."""
        infos = (info for folder in self._folders() for info in folder.glob("*.dist-info"))
        parts = (info.name.removesuffix(".dist-info").rpartition("-") for info in infos)
        return {normalize(name): version for name, _, version in parts}

    def cuda_version(self) -> str | None:
        """Return the CUDA version of torch, empty without CUDA; None if torch is not installed."""
        versions = (read_cuda_version(folder / "torch") for folder in self._folders())
        return next((version for version in versions if version is not None), None)

    def install(self, arguments: Sequence[str], line: StageLine) -> None:
        """Run `pip install`."""
        bar = "raw" if _prints_progress(self.packages().get("pip", "")) else "off"
        self.python(["-m", "pip", "install", "--progress-bar", bar, *arguments], line)

    def python(
        self, arguments: Sequence[str], line: StageLine, limit_s: float | None = None
    ) -> None:
        """Run the Python of the environment."""
        self.call([str(self.options.python), *arguments], line, limit_s)

    def call(self, command: Sequence[str], line: StageLine, limit_s: float | None = None) -> None:
        """Run a command. Raises CommandError if it fails, TimeoutError after `limit_s` seconds."""
        env = child_environment(self.options.home) | PIP_ENVIRONMENT
        code, output = run_watched(
            command, line, self.log, env=env, cwd=self.options.root, limit_s=limit_s
        )
        if code:
            raise CommandError(line.title.partition("] ")[2], output, self.log)

    def _folders(self) -> list[Path]:
        venv = self.options.venv
        return [*venv.glob("lib/python*/site-packages"), *venv.glob("Lib/site-packages")]


def child_environment(home: Path) -> dict[str, str]:
    """Return the environment for processes in `.venv`, without the paths of another Python."""
    foreign = {"PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__", "PIP_TARGET", "PIP_PREFIX"}
    kept = {name: value for name, value in os.environ.items() if name not in foreign}
    return kept | {"MODELFORGE_HOME": str(home), "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}


def normalize(name: str) -> str:
    """Return the name of a package as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _prints_progress(pip: str) -> bool:
    """Return whether pip can print its download progress line by line (since 24.1)."""
    return tuple(int(n) for n in pip.split(".")[:2] if n.isdigit()) >= (24, 1)
