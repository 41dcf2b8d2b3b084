"""The part of another node in a run of `travels`: it writes who it is, and ends."""

import os
import sys
from pathlib import Path

Path(sys.argv[1], "node.txt").write_text(os.environ["MODELFORGE_NODES"], encoding="utf-8")
