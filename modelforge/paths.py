"""Where things lie: the home folder, and what we ship with us."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs


@dataclass(frozen=True)
class Home:
    """The folder that holds everything a person makes with ModelForge."""

    root: Path

    @property
    def runs(self) -> Path:
        """One folder a run."""
        return self.root / "runs"

    @property
    def queue(self) -> Path:
        """Which runs wait, in which order."""
        return self.root / "queue.json"

    @property
    def memory_traces(self) -> Path:
        """What runs were found to hold, by what it depends on; made again where it is missing."""
        return self.root / "footprints.json"

    @property
    def lease(self) -> Path:
        """Who holds the machine beside the runs."""
        return self.root / "lease.json"

    @property
    def uploads(self) -> Path:
        """Data files that came through the browser or REST."""
        return self.root / "uploads"

    @property
    def starter_model(self) -> Path:
        """The starter model as safetensors, once it has been converted."""
        return self.root / "models" / "starter"

    @property
    def cache(self) -> Path:
        """What can be made again: deleting it costs time, nothing else."""
        return self.root / "cache"

    @property
    def logs(self) -> Path:
        """What the server, the spare worker and the talker print."""
        return self.root / "logs"


def find_home(path: str | Path | None = None) -> Home:
    """Return the home: the one given, else MODELFORGE_HOME, else the platform's data folder."""
    chosen = path or os.environ.get("MODELFORGE_HOME")
    root = Path(chosen) if chosen else platformdirs.user_data_path("ModelForge", appauthor=False)
    return Home(root.expanduser().resolve())


def resource_folder(name: str) -> Path:
    """Return the folder `profiles` or `assets`, in a checkout and in an installed wheel alike."""
    package = Path(__file__).resolve().parent
    beside = package.parent / name
    return beside if beside.is_dir() else package / "shipped" / name
