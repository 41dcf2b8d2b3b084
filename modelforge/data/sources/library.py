"""The data sets at hand: uploads, what was fetched from the Hub, and our samples."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from modelforge.data.sources.uploads import UNSAFE, list_uploads
from modelforge.errors import ConfigError, NotFoundError, Problem, RunError
from modelforge.paths import Home, resource_folder


@dataclass(frozen=True)
class StoredDataset:
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


def list_datasets(home: Home) -> list[StoredDataset]:
    """Return all data sets at hand: what people brought, the newest first, then the samples."""
    brought = [*_uploaded(home), *_fetched(home)]
    ours = [_kept(each.dataset, each.dataset, "sample", each.path) for each in load_samples()]
    newest_first = sorted((one for one in brought if one), key=lambda one: -one.changed)
    return [*newest_first, *(one for one in ours if one)]


def find_dataset(name: str, home: Home) -> StoredDataset:
    """Return the data set of that name; raises NotFoundError, also for names that are paths."""
    found = next((one for one in list_datasets(home) if one.name == name), None)
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


def delete_dataset(name: str, home: Home) -> None:
    """Delete an upload or a fetched data set; raises ConfigError for a sample."""
    kept = find_dataset(name, home)
    if kept.kind == "sample":
        what = f"{name} comes along with ModelForge and is never deleted."
        raise ConfigError(Problem("dataset", what, "Leave it; it needs next to no space."))
    try:
        kept.path.unlink()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        what = f"{name} cannot be deleted: {reason}."
        raise RunError(Problem("dataset", what, "Check the rights of the home folder.")) from error


def _uploaded(home: Home) -> Iterator[StoredDataset | None]:
    for path in list_uploads(home):
        yield _kept(path.name, path.name, "upload", path)


def _fetched(home: Home) -> Iterator[StoredDataset | None]:
    folder = home.datasets
    for path in folder.glob("*.parquet") if folder.is_dir() else ():
        if not path.name.startswith(".") and path.is_file():
            yield _kept(path.name, str(path), "fetched", path)


def _kept(
    name: str, dataset: str, kind: Literal["upload", "fetched", "sample"], path: Path
) -> StoredDataset | None:
    try:
        stat = path.stat()
    except OSError:  # it went away while we looked
        return None
    return StoredDataset(name, dataset, kind, path, stat.st_size, stat.st_mtime)


SAMPLE_PREFIX = "sample:"


@dataclass(frozen=True)
class Sample:
    """One bundled data set. `question` is not in it; `expect` says what its answer will show.

    `strategies` are those that can learn from its rows, the one to begin with first.
    """

    name: str
    title: str
    description: str
    expect: str
    path: Path
    rows: int
    question: str
    task: str = "text-generation"
    strategies: Sequence[str] = ("sft", "qlora")

    @property
    def dataset(self) -> str:
        """What the setting `dataset` says for it."""
        return SAMPLE_PREFIX + self.name

    def as_dict(self) -> dict[str, Any]:
        """Return the sample as plain data."""
        return asdict(self) | {"path": str(self.path), "dataset": self.dataset}


def load_samples(folder: Path | None = None) -> list[Sample]:
    """Return the bundled data sets in the order of `samples.toml`."""
    folder = folder or resource_folder("assets") / "samples"
    with (folder / "samples.toml").open("rb") as file:
        listed = tomllib.load(file)["sample"]
    return [Sample(**entry | {"path": folder / entry["path"]}) for entry in listed]


def find_dataset_file(dataset: str, home: Home) -> Path:
    """Return the file that `dataset` names: sample:NAME, a path, or the name of an upload.

    A path that is there wins over an upload of the same name. Raises NotFoundError.
    """
    if dataset.startswith(SAMPLE_PREFIX):
        return _sample(dataset.removeprefix(SAMPLE_PREFIX))
    if "\0" in dataset:
        raise _absent(dataset, "The name holds a zero byte.")
    try:
        path = Path(dataset).expanduser()
        if path.is_file():
            return path.resolve()
        folder = path.is_dir()
    except (OSError, RuntimeError) as error:
        raise _absent(dataset, "Check the path.") from error
    upload = home.uploads / dataset
    if not UNSAFE.search(dataset) and not dataset.startswith(".") and upload.is_file():
        return upload
    if folder:
        what = f"{dataset} is a folder, not a file."
        raise NotFoundError(Problem("dataset", what, "Name the file inside it."))
    raise _absent(dataset, "Check the path, upload the file, or take sample:captain.")


def _sample(name: str) -> Path:
    known = {sample.name: sample.path for sample in load_samples()}
    if name not in known:
        listed = ", ".join(SAMPLE_PREFIX + each for each in known)
        raise NotFoundError(
            Problem("dataset", f"{SAMPLE_PREFIX}{name} is no sample.", f"Choose {listed}.")
        )
    return known[name]


def _absent(dataset: str, remedy: str) -> NotFoundError:
    shown = dataset.replace("\0", "\\0")[:200]
    return NotFoundError(Problem("dataset", f"{shown} is not there.", remedy))
