"""Entry point of the worker: `python -m modelforge.train RUN_FOLDER`, or `--warm` to wait."""

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

from modelforge.modeling.hub_kernels import block_hub_kernels
from modelforge.runs.layout import RunFolder
from modelforge.train import environment
from modelforge.train.worker import needs_fresh_process, preload, run_rank, run_worker


def main(argv: Sequence[str] | None = None) -> int:
    """Do the run in the given folder, or wait for one as a warm worker."""
    parser = argparse.ArgumentParser(prog="python -m modelforge.train")
    parser.add_argument("folder", nargs="?", type=Path, help="the run folder")
    parser.add_argument("--warm", action="store_true", help="import the stack and wait on stdin")
    parser.add_argument("--rank", action="store_true", help="be one of several processes of a run")
    parser.add_argument("--node", action="store_true", help="do the part of another node of a run")
    arguments = parser.parse_args(argv)
    # Writes a traceback to the log when a library crashes.
    faulthandler.enable()
    if arguments.warm:
        return _wait_for_run()
    if arguments.folder is None:
        parser.error("give a run folder, or --warm")
    if arguments.node:
        from modelforge.train.ranks.launch import run_node  # noqa: PLC0415  (imports torch)

        return run_node(arguments.folder)
    return run_rank(arguments.folder) if arguments.rank else run_worker(arguments.folder)


def _wait_for_run() -> int:
    """Import the training stack, and do the first run named on stdin."""
    environment.configure_process()
    block_hub_kernels()
    preload()
    from modelforge.modeling.tokenize import dataset  # noqa: F401, PLC0415  (preloads it)
    from modelforge.train import save  # noqa: F401, PLC0415  (preloads it)
    from modelforge.train.callbacks import reporter  # noqa: F401, PLC0415  (preloads it)
    from modelforge.train.warm import RequestLoop  # noqa: PLC0415

    requests = RequestLoop(sys.stdout)
    requests.send({"ready": True})
    for line in sys.stdin:
        message = json.loads(line)
        if "probe" in message:
            requests.submit(message["probe"])
        elif "run" in message:
            run = RunFolder(Path(message["run"]))
            requests.send({"taken": True})
            is_idle = requests.close()
            _redirect_output(run.log)
            if not needs_fresh_process(run.path) and (is_idle or requests.wait_idle()):
                return run_worker(run.path)
            # A probe that does not end must not compete with the run, Unsloth has to be imported
            # before what is imported here, and CUDA keeps the GPU that was visible.
            _restart(run.path)
    os._exit(0)  # the server has gone; a probe may still be running


def _restart(path: Path) -> NoReturn:
    """Do the run in a fresh interpreter with the process id that the server knows."""
    command = [sys.executable, "-m", "modelforge.train", str(path)]
    if sys.platform == "win32":
        # There execv would start another process and end this one.
        raise SystemExit(subprocess.call(command))
    os.execv(sys.executable, command)


def _redirect_output(log: Path) -> None:
    """Write stdout and stderr to the run's log, and close the pipes to the server."""
    sys.stdout.flush()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (file, 1), (file, 2)):
        os.dup2(source, target)
    os.close(file)
    os.close(null)


if __name__ == "__main__":
    raise SystemExit(main())
