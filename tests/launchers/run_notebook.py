"""Execute a notebook in this environment, which has Jupyter and nothing of ours.

    python run_notebook.py FILE.ipynb [interrupt | kill]

`interrupt` interrupts the kernel, and `kill` kills it with the training, after the third step.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

STEPS = 3


async def execute(path: Path, how: str) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    client = NotebookClient(notebook, timeout=3600, kernel_name="python3")
    async with client.async_setup_kernel(cwd=str(path.parent)):
        for index, cell in enumerate(notebook.cells):
            watcher = None
            if cell.source.startswith("#@title Train") and how:
                watcher = asyncio.create_task(disturb(client, path.parent, how))
            try:
                await client.async_execute_cell(cell, index)
            except (CellExecutionError, DeadKernelError) as error:
                if how == "kill":
                    return
                raise SystemExit(f"cell {index}: {error}") from error
            finally:
                if watcher is not None:
                    watcher.cancel()
    nbformat.write(notebook, path)


async def disturb(client: NotebookClient, folder: Path, how: str) -> None:
    while True:
        await asyncio.sleep(0.1)
        for events in folder.glob("modelforge-run/home/runs/*/events.jsonl"):
            if (
                events.read_text().count('"kind":"step"')
                + events.read_text().count('"kind": "step"')
                >= STEPS
            ):
                if how == "interrupt":
                    await client.km.interrupt_kernel()
                    return
                kill_all(events.parent)
                await client.km.shutdown_kernel(now=True)
                return


def kill_all(run: Path) -> None:
    """Kill the training and what has started it, as a computer that is taken away does."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(run).encode() in command or b"--request-id" in command:
            os.kill(int(process.name), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(execute(Path(sys.argv[1]).resolve(), (sys.argv[2:] or [""])[0]))
