"""Compare tokens/s and memory of ModelForge, Unsloth and bare TRL on a GPU, in four minutes.

    python bench/gpu_unsloth.py --out FOLDER [--play]

Models of 135M, 0.6B, 1.7B and 8B parameters have random weights. Unsloth is left out, in words,
when it is not installed. FOLDER gets session.json, session.md and session.log.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.gpu_session import PLAY_FACTOR, PYTHON, Step, run_session

# Seconds for one shape: to make the model, and three runs.
LIMITS_S = {"0.6B": 50, "1.7B": 55, "135M": 45, "8B": 90}
MODULE = "bench.gpu_steps.compare"
STEPS = tuple(
    Step(shape, f"{shape} parameters", limit_s, (PYTHON, "-m", MODULE, shape))
    for shape, limit_s in LIMITS_S.items()
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare all shapes; return 1 if one has not been completed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--play", action="store_true", help="tiny models on the CPU")
    options = parser.parse_args(arguments)
    factor = PLAY_FACTOR if options.play else 1
    steps = [Step(s.name, s.title, s.limit_s * factor, s.command) for s in STEPS]
    title = "ModelForge, Unsloth and TRL"
    outcomes = run_session(steps, options.out, 240.0 * factor, play=options.play, title=title)
    return int(any(outcome.state != "done" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
