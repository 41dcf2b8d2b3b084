"""Keep libraries from downloading compiled kernels of the Hub without consent.

The package `kernels` downloads native code and runs it. Where it is installed, Transformers and
bitsandbytes use it by themselves; only a run whose settings allow it may.
"""

from __future__ import annotations

import sys

PACKAGE = "kernels"


def block_hub_kernels() -> None:
    """Make the package `kernels` impossible to import in this process.

    It has to be called before Transformers and bitsandbytes are imported, which look for it once.
    """
    sys.modules[PACKAGE] = None  # type: ignore[assignment]  # the documented way
