"""`python -m modelforge.export FOLDER`: do the export whose folder this is, and test it.

The process ends when its stdin ends, so that it never outlives the server that started it; its
export is queued again then. The exit code is 0 for a finished export, 1 for a failed one.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from modelforge.modeling.hub_kernels import block_hub_kernels
from modelforge.runs.atomic_files import find_json
from modelforge.runs.exports import ExportFolder
from modelforge.runs.process.job_process import end_with_stdin, exit_now


def main(path: Path) -> int:
    """Do an export and return the exit code."""
    folder, ending = ExportFolder(path), threading.Lock()
    end_with_stdin(folder, ending)
    block_hub_kernels()
    request = (find_json(folder.record_file) or {}).get("request") or {}
    if request.get("format") != "hub":
        # Everything that is needed is on this computer, and nothing is looked up.
        os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
        # Otherwise the bars are replaced, as they report the progress of an upload.
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    # Imports torch, after the variables are set.
    from modelforge.export.run import run_export  # noqa: PLC0415

    return run_export(folder, ending)


if __name__ == "__main__":
    exit_now(main(Path(sys.argv[1])))
