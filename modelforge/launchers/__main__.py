"""Entry point of the relay: `python -m modelforge.launchers RUN_FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from modelforge.errors import ForgeError
from modelforge.launchers.launcher import open_launcher
from modelforge.launchers.relay import Relay, open_run
from modelforge.paths import find_home


def main() -> int:
    """Do the run in the given folder elsewhere, and return the exit code."""
    try:
        run, launch = open_run(Path(sys.argv[1]))
        if not launch.is_over:
            Relay(run, find_home(), open_launcher(launch.target), launch).work()
    except ForgeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
