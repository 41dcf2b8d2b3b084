"""`python -m modelforge.evaluate FOLDER`: do the evaluation whose folder this is.

The process ends when its stdin ends, so that it never outlives the server that started it; its
evaluation is queued again then. The exit code is 0 for a finished evaluation, 1 for a failed one.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from modelforge.modeling.hub_kernels import block_hub_kernels
from modelforge.runs.evaluations import EvaluationFolder
from modelforge.runs.process.job_process import end_with_stdin, exit_now


def main(path: Path) -> int:
    """Do an evaluation and return the exit code."""
    folder, ending = EvaluationFolder(path), threading.Lock()
    end_with_stdin(folder, ending)
    block_hub_kernels()
    # Everything that is needed is on this computer, and nothing is looked up.
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ[name] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    # Imports torch, after the variables are set.
    from modelforge.evaluate.run import run_evaluation  # noqa: PLC0415

    return run_evaluation(folder, ending)


if __name__ == "__main__":
    exit_now(main(Path(sys.argv[1])))
