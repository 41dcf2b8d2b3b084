"""`python -m modelforge.export FOLDER`: do the export whose folder this is, and test it.

The process ends when its stdin ends, so that it never outlives the server that started it; its
export is queued again then. The exit code is 0 for a finished export, 1 for a failed one.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from pathlib import Path

import psutil

from modelforge.runs.atomic_files import find_json
from modelforge.runs.exports import ExportFolder
from modelforge.runs.jobs import queue_again
from modelforge.stdin import when_stdin_ends


def main(path: Path) -> int:
    """Do an export and return the exit code."""
    folder, ending = ExportFolder(path), threading.Lock()
    when_stdin_ends(partial(_give_up, folder, ending))
    request = (find_json(folder.record_file) or {}).get("request") or {}
    if request.get("format") != "hub":
        # Everything that is needed is on this computer, and nothing is looked up.
        os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
        # Otherwise the bars are replaced, as they report the progress of an upload.
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    # Imports torch, after the variables are set.
    from modelforge.export.run import run_export  # noqa: PLC0415

    return run_export(folder, ending)


def _give_up(folder: ExportFolder, ending: threading.Lock) -> None:
    # The export fails as its files are removed, which must not become its result.
    ending.acquire()
    for child in psutil.Process().children(recursive=True):
        child.kill()
    queue_again(folder)
    os._exit(1)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # Taking torch down takes seconds on a busy computer, while the export is not over.
    os._exit(code)
