"""The training engine Surogate: where its program is, and which settings it does not read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from modelforge.config.schema.config import TrainingConfig

PROGRAM = "surogate"
# Path of the program, of the Python of its environment, or of the folder of that environment.
VARIABLE = "MODELFORGE_SUROGATE"
MODULE = "surogate.cli.main"
CAPABILITY_FROM = (8, 0)
SYSTEM, PROCESSORS = "Linux", ("x86_64", "amd64")
# Methods it trains, with the command of its program.
COMMANDS = {"sft": "sft", "dpo": "dpo"}


def uses_surogate(config: TrainingConfig) -> bool:
    """Return whether the run is trained by Surogate."""
    return config.hardware.engine == PROGRAM


def find_surogate(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the words of the command that starts Surogate; empty if it is not installed.

    Recipes never name the program: only the person at this computer does, in its environment.
    """
    environ = os.environ if environ is None else environ
    named = environ.get(VARIABLE, "").strip()
    if not named:
        found = shutil.which(PROGRAM, path=environ.get("PATH"))
        return (found,) if found else ()
    path = Path(named).expanduser()
    if path.is_dir():
        places = (path / "bin" / PROGRAM, path / PROGRAM)
        path = next((place for place in places if place.is_file()), path)
    if not path.is_file() or not os.access(path, os.X_OK):
        return ()
    return (str(path), "-m", MODULE) if path.name.startswith("python") else (str(path),)
