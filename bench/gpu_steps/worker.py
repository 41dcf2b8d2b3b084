"""A worker with less GPU memory, or without waiting for the GPU, as the environment says."""

from __future__ import annotations

import os
import sys

LIMIT_GIB = "MODELFORGE_BENCH_LIMIT_GIB"
NO_SYNC = "MODELFORGE_BENCH_NO_SYNC"


def main() -> int:
    """Set up PyTorch, and run the worker."""
    from modelforge.train import environment

    environment.configure_process()
    import torch

    limit = float(os.environ.get(LIMIT_GIB, "0"))
    if limit and torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory / 2**30
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total))
    if os.environ.get(NO_SYNC):
        torch.cuda.synchronize = lambda *_arguments, **_named: None
    from modelforge.train.__main__ import main as worker

    return worker(sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())
