"""Move runs between computers: write one as a zip file, and take one in as a run of this home."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.sources.load import source_entries
from modelforge.errors import BusyError, ConfigError, DataError, ForgeError, Problem
from modelforge.paths import Home
from modelforge.runs.atomic_files import disk_error, find_json, read_json, write_json
from modelforge.runs.layout import RunFolder
from modelforge.runs.portable.archive import (
    MAX_ARCHIVE_BYTES,
    RunArchive,
    open_archive,
    write_archive,
)
from modelforge.runs.portable.files import ADAPTER_CONFIG
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.states import read_facts
from modelforge.runs.store import STAGING, Store, is_id
from modelforge.units import MIB, human_bytes

SUFFIX = ".zip"
# Disk space that stays free.
_SPARE_BYTES = 512 * MIB


class RunArchiveService:
    """Pack runs and take them in. Thread-safe."""

    def __init__(self, home: Home, store: Store, supervisor: Supervisor) -> None:
        self._home = home
        self._store = store
        self._supervisor = supervisor

    def pack(self, run_id: str, target: Path) -> Path:
        """Write a run that is over into a new zip file and return it.

        Raises NotFoundError, BusyError while the run is active, ConfigError if the file exists,
        DataError if its data is missing, RunError if the disk is full.
        """
        run = self._store.get(run_id)
        state = self._supervisor.state(run)
        if not state.is_over:
            raise BusyError(Problem("run", f"{run.id} is {state}.", "Stop it first."), run.id)
        try:
            write_archive(run, self._home, target)
        except FileExistsError as error:
            remedy = "Choose another name, or delete the file."
            raise ConfigError(Problem(str(target), "The file exists.", remedy)) from error
        return target

    def receive(self, chunks: Iterable[bytes]) -> str:
        """Take in the run of an archive that is sent in parts; return its id.

        Raises what `take_in` raises.
        """
        draft = self._home.runs / f"{STAGING}{secrets.token_hex(8)}{SUFFIX}"
        try:
            draft.parent.mkdir(parents=True, exist_ok=True)
            self._write(chunks, draft)
            return self.take_in(draft, "The file")
        except OSError as error:
            raise disk_error(error, draft) from error
        finally:
            draft.unlink(missing_ok=True)

    def take_in(self, path: Path, name: str = "") -> str:
        """Take in the run of an archive on this computer; return its id.

        `name` is that of the file in messages. Raises DataError for an archive that cannot be
        used, ConfigError if the run is here already, RunError if the disk is full; then nothing
        has been created.
        """
        archive = open_archive(path)
        run_id = archive.run_id
        if not is_id(run_id):
            raise DataError(Problem(name or path.name, "The id of its run is not one.", ""))
        self._refuse_known(run_id)
        size = archive.size
        if size + _SPARE_BYTES > shutil.disk_usage(self._home.root).free:
            what = f"It needs {human_bytes(size)} unpacked, more than the disk has free."
            raise DataError(Problem(name or path.name, what, "Free some disk space."))
        staged = RunFolder(self._home.runs / f"{STAGING}{run_id}-{secrets.token_hex(4)}")
        try:
            archive.extract(staged.path)
            self._adapt(archive, staged, name or path.name)
            with self._supervisor.claim():
                self._refuse_known(run_id)
                self._store.adopt(staged, run_id)
        finally:
            shutil.rmtree(staged.path, ignore_errors=True)
        return run_id

    def _refuse_known(self, run_id: str) -> None:
        if self._store.exists(run_id):
            remedy = "Delete that run first if the archive shall replace it."
            raise ConfigError(Problem("run", f"The run {run_id} is here already.", remedy))

    def _write(self, chunks: Iterable[bytes], draft: Path) -> None:
        size = 0
        with draft.open("xb") as file:
            for chunk in chunks:
                size += len(chunk)
                if size > MAX_ARCHIVE_BYTES:
                    what = f"The file is larger than {human_bytes(MAX_ARCHIVE_BYTES)}."
                    remedy = "Use `modelforge runs import FILE` on this computer."
                    raise DataError(Problem("body", what, remedy))
                file.write(chunk)

    def _adapt(self, archive: RunArchive, staged: RunFolder, name: str) -> None:
        """Give the record of a run the paths of this computer; raise DataError for a wrong one."""
        final = self._home.runs / archive.run_id
        try:
            record = archive.located(read_json(staged.config), final, self._home)
            _require_usable(record, archive.run_id, final)
            if not read_facts(staged).state.is_over:
                raise ValueError("a run that has not ended")
        except (ForgeError, LookupError, TypeError, ValueError, AttributeError) as error:
            what = "Its run is damaged, or of a version of ModelForge that this one cannot read."
            remedy = "Use the same version on both computers."
            raise DataError(Problem(name, what, remedy)) from error
        for part in (staged.output, staged.reward_model):
            if (config := find_json(part / ADAPTER_CONFIG)) is not None:
                write_json(part / ADAPTER_CONFIG, archive.located(config, final, self._home))
        # Another computer has asked for it.
        write_json(staged.config, {**record, "request_id": None})
        with contextlib.suppress(OSError):
            staged.process.unlink(missing_ok=True)


def _require_usable(record: dict[str, Any], run_id: str, folder: Path) -> None:
    """Raise ValueError, or what reading raises, for a record that is not one of this run.

    Its data has to be in its folder: an archive must not name other files of this computer.
    """
    TrainingConfig.from_record(record["config"])
    Plan.from_dict(record["plan"], record["config"])
    dataset = record["dataset"]
    entries = [*source_entries(dataset), *source_entries(dataset, "validation")]
    files = [Path(file) for entry in entries for file in entry["files"]]
    if record["id"] != run_id or not isinstance(record["name"], str):
        raise ValueError("another run")
    if any(folder / "data" not in file.parents or ".." in file.parts for file in files):
        raise ValueError("data outside of the archive")
