"""The code and the versions of this installation, for another computer: a wheel and its pins.

The wheel is built from the files that run here, installed or in a checkout, without a build tool.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from modelforge import __version__
from modelforge.errors import ConfigError, Problem
from modelforge.paths import PACKAGE_ROOT, PROJECT_ROOT
from modelforge.runs.atomic_files import disk_error

DISTRIBUTION = "modelforge-app"
NAME = f"modelforge_app-{__version__}-py3-none-any.whl"
SKIPPED = ("__pycache__", ".pyc")
# Their versions depend on the build of torch.
OF_TORCH = ("nvidia-", "triton", "cuda-")
# The oldest time that a zip file can have: the same code gives the same bytes.
TIME = (1980, 1, 1, 0, 0, 0)
WHEEL = "Wheel-Version: 1.0\nGenerator: modelforge\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True)
class Code:
    """The code of this installation.

    Attributes:
        key: Hash of the code.
        wheel: The file, in a folder that is named by the key.
        requirements: What it needs, as lines for pip, without extras.
        pins: The installed versions of all that, as lines for `pip install -c`.
    """

    key: str
    wheel: Path
    requirements: tuple[str, ...]
    pins: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Write the wheel, its requirements and its pins into a folder; raises RunError."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "requirements.txt").write_text("\n".join([*self.requirements, ""]))
            (folder / "pins.txt").write_text("\n".join([*self.pins, ""]))
            shutil.copy2(self.wheel, folder / self.wheel.name)
        except OSError as error:
            raise disk_error(error, folder / self.wheel.name) from error


@cache
def build_code(folder: Path, extras: tuple[str, ...] = ()) -> Code:
    """Return the code of this process; its wheel is written below `folder` unless it is there.

    The requirements have those of `extras` too. Raises ConfigError for an unknown extra, RunError
    if the wheel cannot be written.
    """
    contents = dict(sorted(_contents()))
    requirements = tuple(_requirements(extras))
    digest = hashlib.sha256("\n".join(requirements).encode())
    for name, data in contents.items():
        digest.update(f"\n{name}\n{len(data)}\n".encode() + data)
    key = digest.hexdigest()[:16]
    wheel = folder / key / NAME
    if not wheel.is_file():
        try:
            _write(wheel, contents, requirements)
        except OSError as error:
            raise disk_error(error, wheel) from error
    return Code(key, wheel, requirements, tuple(_pins(requirements)))


def _contents() -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file of the wheel but its metadata."""
    yield from _files(PACKAGE_ROOT, "modelforge")
    project = _project()
    if not project:
        return
    yield from _files(PROJECT_ROOT / "ui", "ui")
    for source, target in project["tool"]["hatch"]["build"]["targets"]["wheel"][
        "force-include"
    ].items():
        yield from _files(PROJECT_ROOT / source, target)


def _files(source: Path, target: str) -> Iterator[tuple[str, bytes]]:
    if source.is_file():
        yield target, source.read_bytes()
    for path in source.rglob("*"):
        if path.is_file() and not any(part.endswith(SKIPPED) for part in path.parts):
            yield f"{target}/{path.relative_to(source).as_posix()}", path.read_bytes()


def _project() -> dict[str, Any]:
    """Return pyproject.toml of a checkout; empty for an installed package."""
    try:
        return tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    except OSError:
        return {}


def _requirements(extras: Iterable[str]) -> Iterator[str]:
    if project := _project():
        needed, optional = project["project"]["dependencies"], _optional(project)
    else:
        lines = metadata.requires(DISTRIBUTION) or []
        needed = [line for line in lines if "extra ==" not in line]
        optional = {
            extra: [line.partition(";")[0] for line in lines if f'extra == "{extra}"' in line]
            for extra in metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
        }
    yield from needed
    for extra in extras:
        if extra not in optional:
            what = f"{extra[:40]!r} is not an extra."
            raise ConfigError(Problem("extras", what, f"Choose of {', '.join(sorted(optional))}."))
        yield from optional[extra]


def _optional(project: Mapping[str, Any]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = project["project"]["optional-dependencies"]
    return {
        extra: [line for line in lines if not line.startswith(DISTRIBUTION)]
        for extra, lines in groups.items()
    }


def _pins(requirements: Iterable[str]) -> Iterator[str]:
    """Yield the installed version of each required package and of those that these require."""
    waiting, known = [Requirement(line) for line in requirements], set[str]()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        is_needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if name in known or not is_needed or name.startswith(OF_TORCH):
            continue
        known.add(name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        waiting += [Requirement(line) for line in found.requires or ()]
    for each in sorted(known):
        if version := _version(each):
            yield f"{each}=={version}"


def _version(name: str) -> str:
    """Return the version of an installed package without that of its build; empty without it."""
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return ""


def _write(wheel: Path, contents: Mapping[str, bytes], requirements: Iterable[str]) -> None:
    info = f"modelforge_app-{__version__}.dist-info"
    about = [f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {__version__}"]
    about += [f"Requires-Dist: {line}" for line in requirements]
    points = "[console_scripts]\nmodelforge = modelforge.cli.main:main\n"
    files = {
        **contents,
        f"{info}/METADATA": ("\n".join(about) + "\n").encode(),
        f"{info}/WHEEL": WHEEL.encode(),
        f"{info}/entry_points.txt": points.encode(),
    }
    record = [f"{name},{_digest(data)},{len(data)}" for name, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    wheel.parent.mkdir(parents=True, exist_ok=True)
    draft = wheel.with_suffix(".part")
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, TIME)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, data)
    draft.replace(wheel)


def _digest(data: bytes) -> str:
    digest = hashlib.sha256(data).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
