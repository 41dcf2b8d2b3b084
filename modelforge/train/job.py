"""What a worker is to do: the run's record as the store wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelforge.config.plan import Plan
from modelforge.config.schema import TrainingConfig
from modelforge.data.detect import Mapping
from modelforge.runs.layout import RunFolder, read_json


@dataclass(frozen=True)
class Job:
    """One run: its folder and name, what was asked, what that comes to, and the data."""

    run: RunFolder
    name: str
    config: TrainingConfig
    plan: Plan
    data_path: Path
    data_sha256: str | None
    mapping: Mapping

    @classmethod
    def read(cls, run: RunFolder) -> Job:
        """Read the record; nothing in it is decided anew."""
        record = read_json(run.config)
        return cls(
            run=run,
            name=record["name"],
            config=TrainingConfig(**record["config"]),
            plan=Plan.from_dict(record["plan"]),
            data_path=Path(record["dataset"]["path"]),
            data_sha256=record["dataset"].get("sha256"),
            mapping=Mapping.from_dict(record["dataset"]["mapping"]),
        )
