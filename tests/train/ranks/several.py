"""A process that is one of two in each of several runs, which saves the imports of all but one."""

import sys
from pathlib import Path

from modelforge.train.worker import run_rank

if __name__ == "__main__":
    for folder in sys.argv[1:]:
        run_rank(Path(folder))
