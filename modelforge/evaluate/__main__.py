"""`python -m modelforge.evaluate FOLDER`: do the evaluation whose folder this is.

The process ends when its stdin ends, so that it never outlives the server that started it; its
evaluation is queued again then. The exit code is 0 for a finished evaluation, 1 for a failed one.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from pathlib import Path

import psutil

from modelforge.runs.evaluations import EvaluationFolder
from modelforge.runs.jobs import queue_again
from modelforge.stdin import when_stdin_ends


def main(path: Path) -> int:
    """Do an evaluation and return the exit code."""
    folder, ending = EvaluationFolder(path), threading.Lock()
    when_stdin_ends(partial(_give_up, folder, ending))
    # Everything that is needed is on this computer, and nothing is looked up.
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ[name] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    # Imports torch, after the variables are set.
    from modelforge.evaluate.run import run_evaluation  # noqa: PLC0415

    return run_evaluation(folder, ending)


def _give_up(folder: EvaluationFolder, ending: threading.Lock) -> None:
    # What ends the process must not become the result of the evaluation.
    ending.acquire()
    for child in psutil.Process().children(recursive=True):
        child.kill()
    queue_again(folder)
    os._exit(1)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # Taking torch down takes seconds on a busy computer, while the evaluation is not over.
    os._exit(code)
