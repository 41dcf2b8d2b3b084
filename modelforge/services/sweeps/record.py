"""The files of a sweep: what was asked for, the request to stop, and the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelforge.errors import NotFoundError, Problem
from modelforge.runs.atomic_files import find_json, write_json, write_text
from modelforge.runs.store import is_id
from modelforge.services.sweeps.space import Dimension
from modelforge.services.targets.service import HERE

FORMAT = 1
RECORD, RESULT, STOP = "sweep.json", "result.json", "stop"


@dataclass(frozen=True)
class SweepRecord:
    """What a sweep does. Times are Unix seconds.

    Args:
        settings: the user's own settings, nested; every trial has them but for what is varied.
        own: the user's own values of what is varied.
        total_steps: the steps of a trial that is not stopped.
        seconds: the expected duration of one run, at the slowest of its places.
        places: names of the targets whose trials train at the same time; `here` is this computer.
    """

    name: str
    created: float
    deadline: float
    settings: Mapping[str, Any]
    own: Mapping[str, Any]
    dimensions: tuple[Dimension, ...]
    total_steps: int
    seconds: float
    places: tuple[str, ...] = (HERE,)


@dataclass(frozen=True)
class SweepFolder:
    """The folder of a sweep; its name is the sweep's id."""

    path: Path

    @property
    def id(self) -> str:
        """Id of the sweep."""
        return self.path.name

    def record(self) -> SweepRecord | None:
        """Return what the sweep does; None if that is missing or damaged."""
        data = find_json(self.path / RECORD) or {}
        data.pop("format", None)
        try:
            dimensions = tuple(Dimension.from_dict(each) for each in data.pop("dimensions"))
            places = tuple(data.pop("places", (HERE,)))
            return SweepRecord(**data, dimensions=dimensions, places=places)
        except (KeyError, TypeError):
            return None

    def write(self, record: SweepRecord) -> None:
        """Write what the sweep does; raises OSError."""
        write_json(self.path / RECORD, {"format": FORMAT, **asdict(record)})

    @property
    def is_stopped(self) -> bool:
        """Whether a stop was requested."""
        return (self.path / STOP).exists()

    def request_stop(self) -> None:
        """Request a stop; trials in progress end, and the result is that of the others."""
        write_text(self.path / STOP, "stop")

    def result(self) -> dict[str, Any] | None:
        """Return the result; None while the sweep is in progress."""
        return find_json(self.path / RESULT)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write the result, which ends the sweep."""
        write_json(self.path / RESULT, result)


def sweep_folders(parent: Path) -> Iterator[SweepFolder]:
    """Yield the sweeps of a home, oldest first."""
    for path in sorted(parent.glob("[!.]*")):
        if is_id(path.name) and (path / RECORD).is_file() and not path.is_symlink():
            yield SweepFolder(path)


def find_sweep(parent: Path, sweep_id: str) -> SweepFolder:
    """Return a sweep; raises NotFoundError, also for ids that are paths."""
    folder = SweepFolder(parent / sweep_id)
    if not is_id(sweep_id) or not (folder.path / RECORD).is_file():
        what = f"There is no sweep {sweep_id[:80]!r}."
        raise NotFoundError(Problem("sweep", what, "`modelforge sweeps` lists all of them."))
    return folder
