"""Set up ModelForge once, then open the app. Standard library only."""

import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit(
        "ModelForge needs Python 3.11 to 3.13, and this is {}.{}; install one from python.org and "
        "run launch.py with it.".format(*sys.version_info[:2])
    )

from modelforge.setup.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
