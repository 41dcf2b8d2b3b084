"""Export runs in a process of its own, one at a time, with a prediction of size and duration."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from modelforge.paths import Home
from modelforge.runs.exports import ExportFolder, ExportRequest
from modelforge.services.export_view import ExportView, Prediction

COMMAND = (sys.executable, "-m", "modelforge.export")


class ExportService:
    """The exports of a home. Thread-safe."""

    def __init__(self, home: Home, *, command: Sequence[str] = COMMAND) -> None:
        self._home = home
        self._command = command

    def predict(self, request: ExportRequest) -> Prediction:
        """Return what an export needs; raises what `start` raises, with all problems at once."""
        raise NotImplementedError

    def start(self, request: ExportRequest) -> ExportView:
        """Queue an export; `tend` starts it as soon as this computer is free.

        Raises ConfigError, NotFoundError or MissingPackageError with all problems at once.
        """
        raise NotImplementedError

    def list(self, run_id: str | None = None) -> list[ExportView]:
        """Return the exports, the newest first; of one run if it is given."""
        raise NotImplementedError

    def view(self, export_id: str) -> ExportView:
        """Return an export; raises NotFoundError."""
        raise NotImplementedError

    def folder(self, export_id: str) -> ExportFolder:
        """Return the folder of an export; raises NotFoundError, also for ids that are paths."""
        raise NotImplementedError

    def path(self, export_id: str) -> Path:
        """Return where the files of an export are: `files`, or `not-usable` after a failed test.

        Raises NotFoundError for an unknown export, or one without files.
        """
        raise NotImplementedError

    def zip_chunks(self, export_id: str) -> Iterator[bytes]:
        """Yield a zip of the files of an export, uncompressed; raises as `path` does."""
        raise NotImplementedError

    def log(self, export_id: str) -> str:
        """Return the end of the exporter's output."""
        raise NotImplementedError

    def stop(self, export_id: str) -> ExportView:
        """Stop an export that waits or is in progress; return its state then."""
        raise NotImplementedError

    def delete(self, export_id: str) -> None:
        """Delete an export and its files; raises BusyError while it is in progress."""
        raise NotImplementedError

    def active(self) -> str | None:
        """Return the id of the export that is in progress, or None."""
        raise NotImplementedError

    def tend(self) -> None:
        """Start the next queued export, and clean up after those that were lost or stopped."""
        raise NotImplementedError

    def close(self) -> None:
        """End the exporter; what is queued is continued by the next server."""
        raise NotImplementedError
