"""Do one export: write the files, test them, make them visible, and record how it ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from modelforge.errors import ForgeError, Problem, RunError
from modelforge.export import adapter, gguf_file, hub, merged, mlx, ollama
from modelforge.export.check import self_test
from modelforge.export.job import Job
from modelforge.export.self_test import SelfTest
from modelforge.modeling.job_problem import job_problem
from modelforge.runs.exports import ExportFile, ExportFolder, ExportResult, write_result
from modelforge.runs.jobs import StepWriter

AGAIN = "export again"
WRITERS: dict[str, Callable[[Job, Path, StepWriter], None]] = {
    "adapter": adapter.write,
    "merged": merged.write,
    "gguf": gguf_file.write,
    "ollama": ollama.write,
    "mlx": mlx.write,
}
# Called once the files are complete and tested; they return an address.
PUBLISHERS: dict[str, Callable[[Job, Path, StepWriter], str]] = {
    "hub": hub.publish,
    "ollama": ollama.publish,
}


def run_export(folder: ExportFolder, ending: threading.Lock | None = None) -> int:
    """Do the export of a folder and return the exit code; a result is always written.

    It is written under the lock `ending`, which is kept by who ends the process meanwhile.
    """
    steps = StepWriter(folder.events)
    try:
        _remove(folder.staged, folder.work)
        folder.staged.mkdir()
        result = _export(Job.read(folder), steps)
    except Exception as error:  # noqa: BLE001  # the outermost frame: a crash becomes a result
        traceback.print_exc(file=sys.stderr)
        problem = job_problem(error, folder, AGAIN)
        # On a full disk, this makes room for the result.
        _remove(folder.staged, folder.work)
        result = ExportResult("failed", time.time(), problem=problem)
    _remove(folder.work)
    with ending or contextlib.nullcontext(), contextlib.suppress(ForgeError):
        write_result(folder, result)
    return int(result.state == "failed")


def _export(job: Job, steps: StepWriter) -> ExportResult:
    folder = job.folder
    if source := job.record.facts.get("from_export"):
        tested = _link(Path(source), folder.staged)
    else:
        WRITERS[job.request.written](job, folder.staged, steps)
        adapter.write_card(job, folder.staged)
        tested = self_test(job, folder.staged, steps)
    steps.end()
    _remove(folder.work)
    kind: Literal["finished", "failed"] = "finished" if tested.passed else "failed"
    place = folder.files if tested.passed else folder.not_usable
    folder.staged.rename(place)
    problem, address = tested.problem(), ""
    if tested.passed and (publish := PUBLISHERS.get(job.request.format)):
        try:
            address = publish(job, place, steps)
            steps.end()
        except Exception as error:  # noqa: BLE001  # the files are complete, whatever happens here
            traceback.print_exc(file=sys.stderr)
            kind, problem = "failed", job_problem(error, folder, AGAIN)
    return ExportResult(kind, time.time(), _files(place), tested.as_dict(), problem, address)


def _link(source: Path, target: Path) -> SelfTest:
    """Link the files of a finished export into another one, and return its self-test."""
    tested = ExportFolder(source.parent).result()
    if tested is None or not tested.self_test:
        what = "The export that is to be uploaded is not there any more."
        raise RunError(Problem("source", what, "Export the run again."))
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir()
            continue
        try:
            os.link(path, copy)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, copy)
    known = SelfTest.__dataclass_fields__
    return SelfTest(**{key: value for key, value in tested.self_test.items() if key in known})


def _files(folder: Path) -> tuple[ExportFile, ...]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        ExportFile(path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths
    )


def _remove(*folders: Path) -> None:
    for path in folders:
        shutil.rmtree(path, ignore_errors=True)
