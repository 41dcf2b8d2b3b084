"""Where a run trains that does not train here: its target, and the job that was submitted there.

The record is written with the run folder, and again before each start elsewhere. While the run is
active, its relay alone writes it. A resume on this computer deletes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from modelforge.config.schema.base import about
from modelforge.runs.atomic_files import find_json, write_json

FORMAT = 1


@dataclass(frozen=True)
class Target:
    """A place that trains runs: another computer, a cluster, an engine. It holds no secret.

    `options` are those of its kind. `slots` is the number of runs that it takes at a time.
    """

    name: Annotated[str, about("Its name.")]
    kind: Annotated[str, about("How it is used, such as ssh or slurm.")]
    address: Annotated[str, about("Where it is: HOST[:PORT][/FOLDER], a partition, an address.")]
    slots: Annotated[int, about("How many runs it takes at a time.")] = 1
    options: Annotated[dict[str, str], about("Options of its kind.")] = field(default_factory=dict)


@dataclass(frozen=True)
class Launch:
    """A run at a target. Times are Unix seconds.

    Attributes:
        job: Name of the job, unique to this start. It is chosen and written before the submission,
            and looked for before another one.
        id: What the engine calls the job; empty until it is submitted.
        home: Address of the folder of ModelForge there.
        submitted: When the job was submitted, or is about to be.
        files: Path below the home there → path here, of what the run reads.
        log_from: Size of the log in bytes when the job was submitted.
        note: What is done, or waited for, as a sentence.
        no_connection_since: Since when the target cannot be reached; None while it can.
        cost: What the engine says it costs, as text; empty where it says nothing.
        is_over: Whether nothing is left to do: the files are here, or the job is lost.
        what, remedy: Why the job was lost.
    """

    target: Target
    job: str = ""
    id: str = ""
    home: str = ""
    files: dict[str, str] = field(default_factory=dict)
    submitted: float | None = None
    log_from: int = 0
    note: str = ""
    no_connection_since: float | None = None
    cost: str = ""
    is_over: bool = False
    what: str = ""
    remedy: str = ""

    def changed(self, **parts: Any) -> Launch:
        """Return the record with other parts."""
        return replace(self, **parts)


@dataclass(frozen=True)
class Elsewhere:
    """Where a run trains that does not train here. Times are Unix seconds."""

    target: Annotated[str, about("The name of the target.")]
    place: Annotated[str, about("Its kind and address.")]
    job: Annotated[str, about("The id of the job there; empty until it is submitted.")]
    since: Annotated[float | None, about("When it was submitted.")]
    note: Annotated[str, about("What is done, or waited for; empty if nothing.")]
    no_connection_since: Annotated[
        float | None, about("Since when the target does not answer; null while it does.")
    ]
    cost: Annotated[str, about("What the engine says it costs; empty if it says nothing.")]


def elsewhere(launch: Launch | None) -> Elsewhere | None:
    """Return where a run trains; None for this computer."""
    if launch is None:
        return None
    target, note = launch.target, launch.note
    return Elsewhere(
        target.name,
        f"{target.kind}:{target.address}",
        launch.id,
        launch.submitted,
        note,
        launch.no_connection_since,
        launch.cost,
    )


_LAUNCH = TypeAdapter(Launch)


def launch_record(target: Target) -> dict[str, Any]:
    """Return the record of a run that is to start at a target."""
    return _as_record(Launch(target))


def read_launch(path: Path) -> Launch | None:
    """Return the record in `path`; None where there is none: the run trains here."""
    data = find_json(path)
    if data is None or data.get("format") != FORMAT:
        return None
    return parse_launch(data)


def parse_launch(data: Mapping[str, Any]) -> Launch | None:
    """Return a record from plain data, or None if it is damaged."""
    try:
        return _LAUNCH.validate_python({**data})
    except ValidationError:
        return None


def write_launch(path: Path, launch: Launch) -> None:
    """Write the record atomically; raises RunError."""
    write_json(path, _as_record(launch))


def _as_record(launch: Launch) -> dict[str, Any]:
    return {"format": FORMAT, **asdict(launch)}
