"""The worker's door: `python -m modelforge.train RUN_FOLDER`, or `--spare` to wait for one."""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from modelforge.runs.layout import RunFolder
from modelforge.train import environment
from modelforge.train.worker import needs_fresh_process, preload, run_worker


def main(argv: Sequence[str] | None = None) -> int:
    """Work on the run that is named, or be the spare until one is handed over."""
    parser = argparse.ArgumentParser(prog="python -m modelforge.train")
    parser.add_argument("folder", nargs="?", type=Path, help="the run folder to work on")
    parser.add_argument("--spare", action="store_true", help="import the stack and wait on stdin")
    asked = parser.parse_args(argv)
    # A crash in a library then says in the log that it was one, and where.
    faulthandler.enable()
    if asked.spare:
        return _wait()
    if asked.folder is None:
        parser.error("name a run folder, or give --spare")
    return run_worker(asked.folder)


def _wait() -> int:
    """Import the stack without touching CUDA, say so, and take the first run that is named."""
    environment.configure_process()
    preload()
    from modelforge.modeling.tokenize import dataset  # noqa: F401, PLC0415  (to be warm)
    from modelforge.train import save  # noqa: F401, PLC0415  (to be warm)
    from modelforge.train.callbacks import reporter  # noqa: F401, PLC0415  (to be warm)
    from modelforge.train.warm import RequestLoop  # noqa: PLC0415

    waiting = RequestLoop(sys.stdout)
    waiting.say({"ready": True})
    for line in sys.stdin:
        said = json.loads(line)
        if "probe" in said:
            waiting.probe(said["probe"])
        elif "run" in said:
            run = RunFolder(Path(said["run"]))
            waiting.say({"taken": True})
            is_idle = waiting.end()
            _turn_to(run.log)
            if not needs_fresh_process(run.path) and (is_idle or waiting.wait()):
                return run_worker(run.path)
            # A probe that does not let go must not work beside the run, and Unsloth cannot come
            # after what is imported here: begin anew without either.
            _begin_anew(run.path)
    os._exit(0)  # nobody listens any more to a probe that may still be at work


def _begin_anew(path: Path) -> NoReturn:
    """Work on the run in a fresh interpreter, under the process id that the server knows."""
    command = [sys.executable, "-m", "modelforge.train", str(path)]
    if sys.platform == "win32":
        # There execv would end this process and leave another.
        raise SystemExit(subprocess.call(command))
    os.execv(sys.executable, command)


def _turn_to(log: Path) -> None:
    """Send what is printed to the run's log and let go of both pipes, as if started cold."""
    sys.stdout.flush()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (file, 1), (file, 2)):
        os.dup2(source, target)
    os.close(file)
    os.close(nothing)


if __name__ == "__main__":
    raise SystemExit(main())
