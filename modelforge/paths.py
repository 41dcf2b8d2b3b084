"""The home folder and the files of the package; the state of a folder; reading of other files."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import platformdirs

PACKAGE_ROOT = Path(__file__).resolve().parent
# The checkout, or `site-packages` when ModelForge is installed from a wheel.
PROJECT_ROOT = PACKAGE_ROOT.parent


@dataclass(frozen=True)
class Home:
    """The folder that holds all data a user creates with ModelForge."""

    root: Path

    @property
    def runs(self) -> Path:
        """One folder per run."""
        return self.root / "runs"

    @property
    def trial_runs(self) -> Path:
        """One folder per trial run; the folder of version 0.1 stays in use where it exists."""
        folder, old = self.root / "trial_runs", self.root / "rehearsals"
        return old if old.is_dir() and not folder.exists() else folder

    @property
    def queue(self) -> Path:
        """The queued runs in their order."""
        return self.root / "queue.json"

    @property
    def memory_traces(self) -> Path:
        """Cache of traced memory by the settings that affect it."""
        return self.root / "footprints.json"

    @property
    def lease(self) -> Path:
        """The holder of the machine when it is not a run (chat, export, evaluation)."""
        return self.root / "lease.json"

    @property
    def serving(self) -> Path:
        """Which model is served at which address, by which process."""
        return self.root / "serving.json"

    @property
    def uploads(self) -> Path:
        """Data files received through the browser or REST."""
        return self.root / "uploads"

    @property
    def datasets(self) -> Path:
        """Downloads: datasets of the Hub as Parquet, files of object storage as they are."""
        return self.root / "datasets"

    @property
    def exports(self) -> Path:
        """One folder per export of a run."""
        return self.root / "exports"

    @property
    def evaluations(self) -> Path:
        """One folder per evaluation of a run."""
        return self.root / "evaluations"

    @property
    def sweeps(self) -> Path:
        """One folder per sweep."""
        return self.root / "sweeps"

    @property
    def targets(self) -> Path:
        """The places that train runs elsewhere, without secrets."""
        return self.root / "targets.json"

    @property
    def chats(self) -> Path:
        """One file per saved chat."""
        return self.root / "chats"

    @property
    def questions(self) -> Path:
        """One file per question that waits until the computer is free."""
        return self.root / "questions"

    @property
    def corrections(self) -> Path:
        """Corrected answers, on which later runs are tested."""
        return self.root / "corrections.jsonl"

    @property
    def starter_model(self) -> Path:
        """The starter model, converted to safetensors by the setup."""
        return self.root / "models" / "starter"

    @property
    def profiles(self) -> Path:
        """The user's own profiles, one TOML file each."""
        return self.root / "profiles"

    @property
    def presets(self) -> Path:
        """Named settings that the user has stored, one YAML file each."""
        return self.root / "presets"

    @property
    def cache(self) -> Path:
        """Files that can be recreated at any time."""
        return self.root / "cache"

    @property
    def logs(self) -> Path:
        """Output of the server, the warm worker and the chat process."""
        return self.root / "logs"


def find_home(path: str | Path | None = None) -> Home:
    """Return the home at `path`, else at MODELFORGE_HOME, else in the platform's data folder."""
    chosen = path or os.environ.get("MODELFORGE_HOME")
    root = Path(chosen) if chosen else platformdirs.user_data_path("ModelForge", appauthor=False)
    return Home(root.expanduser().resolve())


def expand_user(text: str | Path) -> Path:
    """Return a path with `~` replaced; that of an unknown user stays, and is not found."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def is_file(path: Path) -> bool:
    """Return whether this is a file; False also for names that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def make_private() -> None:
    """Let only this user read the files that this process and its children create."""
    os.umask(0o077)


def resource_folder(name: str) -> Path:
    """Return the bundled folder `profiles`, `assets` or `docs`, in a checkout or a wheel."""
    checkout = PROJECT_ROOT / name
    return checkout if checkout.is_dir() else PACKAGE_ROOT / "shipped" / name


def folder_stamp(folder: str | Path) -> tuple[tuple[str, int, int], ...]:
    """Return name, modification time in ns and size of every file; empty if it is not a folder."""
    try:
        files = [entry for entry in os.scandir(folder) if entry.is_file()]
        stats = [(file.name, file.stat()) for file in files]
    except (OSError, ValueError):
        return ()
    return tuple(sorted((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats))


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; raises OSError for a pipe or a device, which might never end.

    Nothing waits for a pipe without a writer.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return file


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Return the content of a file; raises OSError as `open_regular`, and for a larger file."""
    with open_regular(path) as file:
        # The files of /proc have no size, and reading them may wait for ever.
        size = os.fstat(file.fileno()).st_size
        content = file.read(max_bytes + 1) if size else b""
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {max_bytes:,} bytes", str(path))
    return content
