"""The data sets at hand: uploads, what was fetched from the Hub, and our samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from modelforge.data.sources.samples import samples
from modelforge.data.sources.uploads import uploads
from modelforge.errors import ConfigError, NotFoundError, Problem, RunError
from modelforge.paths import Home

FETCHED = "datasets"


@dataclass(frozen=True)
class Kept:
    """A data set that is at hand; `dataset` is what the setting says for it."""

    name: str
    dataset: str
    kind: Literal["upload", "fetched", "sample"]
    path: Path
    size_bytes: int
    changed: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self) | {"path": str(self.path)}


def shelf(home: Home) -> list[Kept]:
    """Return all data sets at hand: what people brought, the newest first, then the samples."""
    brought = [*_uploaded(home), *_fetched(home)]
    ours = [_kept(each.dataset, each.dataset, "sample", each.path) for each in samples()]
    newest_first = sorted((one for one in brought if one), key=lambda one: -one.changed)
    return [*newest_first, *(one for one in ours if one)]


def find_kept(name: str, home: Home) -> Kept:
    """Return the data set of that name; raises NotFoundError, also for names that are paths."""
    found = next((one for one in shelf(home) if one.name == name), None)
    if found is None:
        shown = name.replace("\0", "\\0")[:120]
        raise NotFoundError(
            Problem(
                "dataset",
                f"There is no data set {shown!r} in this home.",
                "Upload it first; `GET /api/datasets` lists those that are there.",
            )
        )
    return found


def remove_kept(name: str, home: Home) -> None:
    """Delete an upload or a fetched data set; raises ConfigError for a sample."""
    kept = find_kept(name, home)
    if kept.kind == "sample":
        what = f"{name} comes along with ModelForge and is never deleted."
        raise ConfigError(Problem("dataset", what, "Leave it; it needs next to no space."))
    try:
        kept.path.unlink()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        what = f"{name} cannot be deleted: {reason}."
        raise RunError(Problem("dataset", what, "Check the rights of the home folder.")) from error


def _uploaded(home: Home) -> Iterator[Kept | None]:
    for path in uploads(home):
        yield _kept(path.name, path.name, "upload", path)


def _fetched(home: Home) -> Iterator[Kept | None]:
    folder = home.root / FETCHED
    for path in folder.glob("*.parquet") if folder.is_dir() else ():
        if not path.name.startswith(".") and path.is_file():
            yield _kept(path.name, str(path), "fetched", path)


def _kept(
    name: str, dataset: str, kind: Literal["upload", "fetched", "sample"], path: Path
) -> Kept | None:
    try:
        stat = path.stat()
    except OSError:  # it went away while we looked
        return None
    return Kept(name, dataset, kind, path, stat.st_size, stat.st_mtime)
