"""Stream the progress of work in a thread to the browser as JSON lines."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue

from ui.contract import ProgressLine, json_line


def progress_lines(
    work: Callable[[Callable[[str], None]], str], explain: Callable[[Exception], str]
) -> Iterator[str]:
    """Yield the progress that `work` reports, then its result or the explanation of its error."""
    lines: SimpleQueue[ProgressLine] = SimpleQueue()

    def run() -> None:
        try:
            result = work(lambda text: lines.put(ProgressLine(progress=text)))
            lines.put(ProgressLine(done=result))
        except Exception as error:  # noqa: BLE001  # thread boundary: the page must get an end
            lines.put(ProgressLine(error=explain(error)))

    threading.Thread(target=run, name="progress", daemon=True).start()
    while True:
        line = lines.get()
        yield json_line(line)
        if line.progress is None:
            return
