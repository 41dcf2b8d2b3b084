"""Follow a run or the queue at the terminal, with a progress bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from modelforge.cli.output import DONE, FAILED, INTERRUPTED, escape_control, print_run
from modelforge.units import human_time_left

if TYPE_CHECKING:
    from modelforge.forge import Forge
    from modelforge.runs.events import EventRecord
    from modelforge.runs.view import RunView

POLL_S = 0.2
# Without a terminal, one line of progress per interval replaces the bar.
PLAIN_INTERVAL_S = 10.0
# Codes of a queue in which no run will start without a change by the user.
QUEUE_ENDS = ("empty", "held", "failure", "all-held")


class Followed(NamedTuple):
    """A run that is over, and whether Ctrl+C has stopped it here."""

    view: RunView
    is_interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """The exit code of a command that has followed the run."""
        if self.view.state == "finished":
            return DONE
        return INTERRUPTED if self.is_interrupted else FAILED


def follow(forge: Forge, run_id: str, *, quiet: bool = False) -> Followed:
    """Show a run until it is over and return it. Ctrl+C stops it and keeps its model."""
    progress = None if quiet else RunProgress(lambda: forge.runs.view(run_id).time_left())
    cursor, stopping = 0, False
    try:
        while True:
            is_over = forge.runs.state(run_id).is_over
            events, cursor = forge.runs.events(run_id, cursor)
            if progress is not None:
                for event in events:
                    progress.show(event)
            if is_over:
                break
            forge.tend()
            stopping = _wait(forge, run_id, stopping)
    except KeyboardInterrupt:
        print("\nStopped watching. The run continues in the background.", file=sys.stderr)
        raise
    finally:
        if progress is not None:
            progress.close()
    view = forge.runs.view(run_id)
    if not quiet:
        print_run(forge, view)
    return Followed(view, stopping)


def follow_queue(forge: Forge, *, quiet: bool = False) -> list[Followed]:
    """Start the queued runs one after the other, and return each as it was when it was over.

    Ends when no queued run will start by itself. Ctrl+C stops the current run, twice leaves the
    queue.
    """
    runs: list[Followed] = []
    reason = ""
    while True:
        waiting = _waiting(forge)
        run_id = forge.queue.start_next() or forge.runs.active()
        if run_id is not None:
            runs.append(follow(forge, run_id, quiet=quiet))
            # The housekeeping in `follow` may start the next run, which may be over by now.
            started = waiting - _waiting(forge) - {run_id}
            runs += [
                Followed(forge.runs.view(run)) for run in started if forge.runs.state(run).is_over
            ]
            continue
        queue = forge.queue.view()
        if queue.why != reason and queue.code and not quiet:
            reason = queue.why
            print(escape_control(reason), flush=True)
        if queue.code in QUEUE_ENDS:
            return runs
        time.sleep(POLL_S)


def _waiting(forge: Forge) -> set[str]:
    return {entry.run for entry in forge.queue.view().runs}


def _wait(forge: Forge, run_id: str, stopping: bool) -> bool:
    """Wait for the next poll and return whether the run was asked to stop."""
    try:
        time.sleep(POLL_S)
    except KeyboardInterrupt:
        if stopping:
            raise
        forge.runs.stop(run_id, keep=True)
        text = "\nStopping after this step; the model is kept. Press Ctrl+C again to leave."
        print(text, file=sys.stderr)
        return True
    return stopping


class RunProgress:
    """Shows the events of a run as lines and, on a terminal, a progress bar.

    `time_left` returns the estimated seconds left, as the page of the run shows them.
    """

    def __init__(self, time_left: Callable[[], float | None]) -> None:
        self._time_left = time_left
        self._bar: Any = None
        self._phase = ""
        self._total_steps = 0
        self._printed_at = 0.0

    def show(self, event: EventRecord) -> None:
        """Show one event."""
        data = event.data
        if event.kind == "phase" and data["name"] != self._phase:
            self._phase = data["name"]
            self._print(data["text"])
        elif event.kind == "plan":
            self._start_bar(data["total_steps"])
        elif event.kind == "step":
            self._show_step(data)
        elif event.kind == "eval":
            self._print(_evaluation_text(data))
        elif event.kind == "core":
            self._print(f"CORE {data['score']:.3f} on {len(data['tasks'])} tasks")
        elif event.kind == "note":
            self._print(data["text"])

    def close(self) -> None:
        """Stop the progress bar and leave it on the screen."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _start_bar(self, total_steps: int) -> None:
        self.close()
        self._total_steps = total_steps
        if not sys.stdout.isatty():
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        values = TextColumn("{task.fields[values]}", markup=False)
        self._bar = Progress("Step", MofNCompleteColumn(), BarColumn(bar_width=20), values)
        self._bar.add_task("", total=total_steps, values="")
        self._bar.start()

    def _show_step(self, data: dict[str, Any]) -> None:
        if self._bar is not None:
            step, values = data["step"], self._values(data)
            self._bar.update(self._bar.task_ids[0], completed=step, values=values)
            return
        is_last = data["step"] == self._total_steps
        if is_last or time.monotonic() - self._printed_at >= PLAIN_INTERVAL_S:
            self._printed_at = time.monotonic()
            self._print(f"Step {data['step']} of {self._total_steps}: {self._values(data)}")

    def _values(self, data: dict[str, Any]) -> str:
        left = self._time_left()
        speed = data["tokens_per_s"]
        values = f"loss {data['loss']:.3f}{'' if speed is None else f', {speed:,.0f} tokens/s'}"
        return values if left is None else f"{values}, {human_time_left(left)}"

    def _print(self, text: str) -> None:
        if self._bar is None:
            print(escape_control(text), flush=True)
        else:
            self._bar.console.print(escape_control(text), markup=False, highlight=False)


def _evaluation_text(data: dict[str, Any]) -> str:
    """Return the line of an evaluation, which has a reward in place of a loss in rlhf."""
    metrics = data.get("metrics") or {}
    best = " (best so far)" if data["best"] else ""
    if data["loss"] is None:
        reward = metrics.get("reward")
        return "Evaluated" if reward is None else f"Evaluation reward {reward:.3f}{best}"
    bits = metrics.get("bits_per_byte")
    per_byte = "" if bits is None else f", {bits:.3f} bits per byte"
    return f"Evaluation loss {data['loss']:.3f}{per_byte}{best}"
