"""The data sets that come along, and where a data set that is named lies."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelforge.data.sources.uploads import UNSAFE
from modelforge.errors import NotFoundError, Problem
from modelforge.paths import Home, shipped

PREFIX = "sample:"


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
        return PREFIX + self.name

    def as_dict(self) -> dict[str, Any]:
        """Return the sample as plain data."""
        return asdict(self) | {"path": str(self.path), "dataset": self.dataset}


def samples(folder: Path | None = None) -> list[Sample]:
    """Return the bundled data sets in the order of `samples.toml`."""
    folder = folder or shipped("assets") / "samples"
    with (folder / "samples.toml").open("rb") as file:
        listed = tomllib.load(file)["sample"]
    return [Sample(**entry | {"path": folder / entry["path"]}) for entry in listed]


def locate(dataset: str, home: Home) -> Path:
    """Return the file that `dataset` names: sample:NAME, a path, or the name of an upload.

    A path that is there wins over an upload of the same name. Raises NotFoundError.
    """
    if dataset.startswith(PREFIX):
        return _sample(dataset.removeprefix(PREFIX))
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
    known = {sample.name: sample.path for sample in samples()}
    if name not in known:
        listed = ", ".join(PREFIX + each for each in known)
        raise NotFoundError(
            Problem("dataset", f"{PREFIX}{name} is no sample.", f"Choose {listed}.")
        )
    return known[name]


def _absent(dataset: str, remedy: str) -> NotFoundError:
    shown = dataset.replace("\0", "\\0")[:200]
    return NotFoundError(Problem("dataset", f"{shown} is not there.", remedy))
