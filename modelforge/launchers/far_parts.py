"""How `far_engine.py` answers and divides what it writes. Standard library only."""

from __future__ import annotations

MARK = "@modelforge "
# Folder of a run that holds the parts; its name is hidden, so that it is not brought home.
PARTS = ".parts"
PART_BYTES = 64 * 1024
# Folder of a package that holds a piece of a zip with what a job brings along.
PIECES = "modelforge_pieces"
