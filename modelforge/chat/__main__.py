"""`python -m modelforge.chat`: asks come in as JSON lines, answers go out the same way."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import TextIO

from modelforge.chat.protocol import ChatServer, Send


def main() -> int:
    """Serve until stdin ends."""
    say = _wire(_own_the_output())
    # Only now, so that nothing the libraries print can land between two lines of ours.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    desk = ChatServer(
        say, load=lambda: importlib.import_module("modelforge.chat.generate").ChatModel()
    )
    desk.serve(sys.stdin)
    return 0


def _own_the_output() -> TextIO:
    """Keep descriptor 1 for JSON alone; whatever else is printed goes to stderr."""
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return ours


def _wire(out: TextIO) -> Send:
    def say(message: dict[str, object]) -> None:
        out.write(json.dumps(message, allow_nan=False) + "\n")
        out.flush()

    return say


if __name__ == "__main__":
    sys.exit(main())
