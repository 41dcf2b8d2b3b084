"""Measure the time from server start to page and from page to usable, and the server's memory.

python bench/start.py [ROUNDS]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from harness import (
    browsing,
    conditions,
    keep,
    kept,
    recorded,
    resident_mib,
    serving,
    spread,
    starter_home,
    titled,
)

NAME = "start"


def main(rounds: int = 5) -> list[str]:
    """Measure `rounds` starts and return the lines of the report."""
    home = starter_home()
    with recorded(NAME):
        rows = [_round(home, number) for number in range(rounds)]
    keep(NAME, rows)
    return lines()


def _round(home: Path, number: int) -> dict[str, Any]:
    with serving(home) as server:
        page_s = time.time() - server.started
        with browsing() as page:
            opened = time.time()
            page.goto(server.url)
            page.get_by_role("button", name="Start training").wait_for()
            usable_s = time.time() - opened
        time.sleep(1)
        memory = resident_mib(server.process.pid)
        torch = "libtorch" in Path(f"/proc/{server.process.pid}/maps").read_text("utf-8")
    row = {
        "round": number,
        "page_s": round(page_s, 3),
        "usable_s": round(usable_s, 3),
        "memory_mib": round(memory, 1),
        "torch": torch,
    }
    print(row, flush=True)
    return row


def lines() -> list[str]:
    """Return the lines of the report from the stored figures."""
    rows = kept(NAME)
    if not rows:
        return []
    return [
        f"- Server start → first page: {spread([row['page_s'] for row in rows])} s (aim ≤ 4)",
        f"- Page → usable: {spread([row['usable_s'] for row in rows])} s (aim ≤ 1.5)",
        (
            f"- Resident memory of the server after a page: "
            f"{spread([row['memory_mib'] for row in rows], 0)} MiB (aim ≤ 300)"
        ),
        f"- torch in the server process: {'no' if _without_torch(rows) else 'yes'}",
    ]


def _without_torch(rows: list[dict[str, Any]]) -> bool:
    return all(row["torch"] == "False" for row in rows)


def section() -> list[str]:
    """Return the section of docs/performance.md."""
    return titled("The app (`bench/start.py`)", NAME, lines())


if __name__ == "__main__":
    print(conditions())
    print("\n".join(main(*(int(word) for word in sys.argv[1:]))))
