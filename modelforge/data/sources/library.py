"""The available datasets: uploads, downloads from the Hub, and the bundled samples."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from modelforge.config.schema.base import about
from modelforge.data.formats.sniff import SUFFIXES, content_suffix
from modelforge.data.sources.uploads import UNSAFE, list_uploads
from modelforge.errors import ConfigError, NotFoundError, Problem, RunError
from modelforge.paths import Home, resource_folder

SAMPLE_PREFIX = "sample:"
# What a repair did is written beside the copy under this suffix.
REPORT_SUFFIX = ".report"
DATASET = "The value for the setting `dataset`."
DatasetKind = Literal["upload", "fetched", "sample"]


@dataclass(frozen=True)
class StoredDataset:
    """An available dataset."""

    name: Annotated[str, about("Its name in every path.")]
    dataset: Annotated[str, about(DATASET)]
    kind: DatasetKind
    path: Path
    size_bytes: int
    changed: Annotated[float, about("Modification time in Unix seconds.")]


@dataclass(frozen=True)
class Sample:
    """A bundled dataset."""

    name: str
    title: str
    description: str
    expect: Annotated[str, about("What a model does after training on it.")]
    dataset: Annotated[str, about(DATASET)]
    path: Path
    rows: int
    question: Annotated[str, about("A prompt that is not in the data, to try the model with.")]
    task: Annotated[str, about("The task of its rows.")] = "text-generation"
    strategies: Annotated[
        Sequence[str], about("The strategies that can train on it, the usual one first.")
    ] = ("sft", "qlora")


def list_datasets(home: Home) -> list[StoredDataset]:
    """Return all available datasets: those of the user, the newest first, then the samples."""
    uploads = (_stored(path.name, path.name, "upload", path) for path in list_uploads(home))
    fetched = (
        _stored(path.name, str(path), "fetched", path)
        for path in home.datasets.glob("[!.]*")
        if path.is_dir() or content_suffix(path) in SUFFIXES
    )
    samples = (
        _stored(sample.dataset, sample.dataset, "sample", sample.path) for sample in load_samples()
    )
    own = filter(None, (*uploads, *fetched))
    return [*sorted(own, key=lambda dataset: -dataset.changed), *filter(None, samples)]


def find_dataset(name: str, home: Home) -> StoredDataset:
    """Return the available dataset of that name; raises NotFoundError, also for paths."""
    for dataset in list_datasets(home):
        if dataset.name == name:
            return dataset
    shown = name.replace("\0", "\\0")[:120]
    what = f"There is no dataset {shown!r} in this home."
    remedy = "Upload it first; `GET /api/datasets` lists the available datasets."
    raise NotFoundError(Problem("dataset", what, remedy))


def delete_dataset(name: str, home: Home) -> None:
    """Delete an upload or a download; raises ConfigError for a sample."""
    dataset = find_dataset(name, home)
    if dataset.kind == "sample":
        what = f"{name} is part of ModelForge and cannot be deleted."
        raise ConfigError(Problem("dataset", what, "Keep it; it needs almost no disk space."))
    try:
        if dataset.path.is_dir():
            shutil.rmtree(dataset.path)
        else:
            dataset.path.unlink()
        dataset.path.with_name(f"{dataset.path.name}{REPORT_SUFFIX}").unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        what = f"{name} cannot be deleted: {reason}."
        remedy = "Check the permissions of the home folder."
        raise RunError(Problem("dataset", what, remedy)) from error


@cache
def load_samples() -> tuple[Sample, ...]:
    """Return the bundled datasets in the order of `samples.toml`."""
    folder = resource_folder("assets") / "samples"
    with (folder / "samples.toml").open("rb") as file:
        entries = tomllib.load(file)["sample"]
    return tuple(
        Sample(**entry | {"path": folder / entry["path"], "dataset": SAMPLE_PREFIX + entry["name"]})
        for entry in entries
    )


def sample_title(name: str) -> str | None:
    """Return the title of the sample with this value of `dataset`; None for other data."""
    return next((sample.title for sample in load_samples() if sample.dataset == name), None)


def find_dataset_file(dataset: str, home: Home) -> Path:
    """Return the file that `dataset` names: sample:NAME, a path, or the name of an upload.

    An existing path takes precedence over an upload of the same name. Raises NotFoundError.
    """
    if dataset.startswith(SAMPLE_PREFIX):
        return _sample_file(dataset.removeprefix(SAMPLE_PREFIX))
    if "\0" in dataset:
        raise _not_found(dataset, "Remove the zero byte from the name.")
    try:
        path = Path(dataset).expanduser()
        if path.is_file():
            return path.resolve()
        is_folder = path.is_dir()
    except (OSError, RuntimeError) as error:
        raise _not_found(dataset, "Check the path.") from error
    upload = home.uploads / dataset
    if not UNSAFE.search(dataset) and not dataset.startswith(".") and upload.is_file():
        return upload
    if is_folder:
        what = f"{dataset} is a folder, not a file."
        raise NotFoundError(Problem("dataset", what, "Name the file inside it."))
    raise _not_found(dataset, "Check the path, upload the file, or use sample:captain.")


def _stored(name: str, dataset: str, kind: DatasetKind, path: Path) -> StoredDataset | None:
    try:
        stat = path.stat()
    except OSError:  # the file was deleted in the meantime
        return None
    size = stat.st_size
    if path.is_dir():
        size = sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return StoredDataset(name, dataset, kind, path, size, stat.st_mtime)


def _sample_file(name: str) -> Path:
    files = {sample.name: sample.path for sample in load_samples()}
    if name not in files:
        remedy = f"Choose {', '.join(SAMPLE_PREFIX + known for known in files)}."
        what = f"{SAMPLE_PREFIX}{name} is not a sample."
        raise NotFoundError(Problem("dataset", what, remedy))
    return files[name]


def _not_found(dataset: str, remedy: str) -> NotFoundError:
    shown = dataset.replace("\0", "\\0")[:200]
    return NotFoundError(Problem("dataset", f"{shown} does not exist.", remedy))
