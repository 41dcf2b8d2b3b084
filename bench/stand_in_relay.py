"""Stands in for the relay of a run: it waits as long as the run says, and writes its end."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main(folder: Path) -> None:
    """Do the run in `folder`."""
    seconds = float(json.loads((folder / "config.json").read_text())["metadata"]["seconds"])
    _write(folder, 1, "phase", {"name": "training", "text": "Training"})
    time.sleep(seconds)
    _write(folder, 2, "finished", {"step": 1, "seconds": seconds})
    path = folder / "launch.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"is_over": True}))


def _write(folder: Path, number: int, kind: str, data: dict[str, object]) -> None:
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps({"n": number, "t": time.time(), "kind": kind, "data": data}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[-1]))
