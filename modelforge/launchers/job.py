"""Do a bundled run on the computer where this runs: `python -m modelforge.launchers.job HOME RUN`.

Every engine starts this. It puts the home folder into the record and becomes the ordinary worker,
with `--node` after RUN that of another node of the run. With `--machine` in place of RUN it prints
the hardware as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from modelforge.hardware.machine import probe_machine
from modelforge.launchers.paths_there import with_home
from modelforge.paths import Home
from modelforge.runs.atomic_files import read_json, write_json
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.identity import child_environment


def main() -> None:
    """Become the worker of the run RUN in the home HOME; raises RunError without its record."""
    home = Home(Path(sys.argv[1]).expanduser().resolve())
    if sys.argv[2] == "--machine":
        sys.stdout.write(json.dumps(asdict(probe_machine(home.root))) + "\n")
        return
    run = RunFolder(home.runs / sys.argv[2])
    part = sys.argv[3:]
    if not part:
        write_json(run.config, with_home(read_json(run.config), str(home.root)))
    command = [sys.executable, "-m", "modelforge.train", str(run.path), *part]
    sys.stdout.flush()
    os.execve(sys.executable, command, child_environment(home))


if __name__ == "__main__":
    main()
