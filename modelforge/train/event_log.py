"""Events of the worker, each with a plain line in the log."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TextIO, get_args

from modelforge.errors import RunError
from modelforge.runs.event_fields import Event
from modelforge.runs.event_types import (
    AdjustedEvent,
    Ending,
    EvalEvent,
    NoteEvent,
    PhaseEvent,
    PlanEvent,
    ResumedEvent,
    ScoresEvent,
    StepEvent,
)
from modelforge.runs.events import EventWriter
from modelforge.runs.progress.measured_events import CoreEvent

PHASE_EVERY_S = 0.25
LogLevel = Literal["debug", "info", "warning", "error"]
LOG_LEVELS: tuple[LogLevel, ...] = get_args(LogLevel)


class EventLog:
    """Writes events and log lines. A phase is reported when it begins, then four times a second.

    `ended` is the kind of the ending that was written, or None. `make_room` frees disk space that
    was reserved for the ending. `level` and `copy` concern the lines alone; every event is written.
    """

    def __init__(
        self, events: EventWriter, *, make_room: Callable[[], None] = lambda: None
    ) -> None:
        self._events = events
        self._make_room = make_room
        self._text = ""
        self._phase_at = 0.0
        self.ended: str | None = None
        self.level: LogLevel = "info"
        self.copy: TextIO | None = None

    def line(self, text: str, level: LogLevel = "info") -> None:
        """Print one line to the log, unless its level is below that of the log.

        A full disk is ignored; a copy of the log that cannot be written any more is given up.
        """
        if LOG_LEVELS.index(level) < LOG_LEVELS.index(self.level):
            return
        line = f"{time.strftime('%H:%M:%S')}  {text}\n"
        with contextlib.suppress(OSError):
            sys.stdout.write(line)
        if self.copy is None:
            return
        try:
            self.copy.write(line)
        except (OSError, ValueError) as error:
            self.copy = None
            self.note("log-copy-failed", f"The copy of the log ends here: {error}.")

    def phase(
        self, name: str, text: str, *, done: int | None = None, total: int | None = None
    ) -> None:
        """Report the current phase and its progress."""
        now = time.monotonic()
        is_end = total is not None and done == total
        if text == self._text and not is_end and now - self._phase_at < PHASE_EVERY_S:
            return
        if text != self._text:
            self.line(f"{text} …")
        self._text, self._phase_at = text, now
        done = None if total is None else done
        self._events.write(PhaseEvent(name=name, text=text, done=done, total=total))

    def note(self, code: str, text: str) -> None:
        """Report a message for the user."""
        self.line(text, "warning")
        self._events.write(NoteEvent(code=code, text=text))

    def write(self, event: Event) -> None:
        """Write an event, and its line in the log if it has one."""
        self._events.write(event)
        text = _line_of(event)
        if text is not None:
            self.line(text)
        if isinstance(event, EvalEvent):
            self._text = ""
        if isinstance(event, AdjustedEvent):
            recomputed = ", with gradient checkpointing" if event.gradient_checkpointing else ""
            text = (
                f"{event.why} From step {event.step:,} on, a micro-batch has {event.micro_batch} "
                f"rows and a step accumulates {event.accumulation} of them{recomputed}; the result "
                "of the training stays the same."
            )
            self.note("memory-adjusted", text)

    def catch_up(self) -> None:
        """Continue after the events of another process of the run."""
        self._events.catch_up()

    def end(self, event: Ending, text: str) -> None:
        """Report how the run ended; on a full disk, the reserved space is freed for it."""
        self.line(text, "error")
        try:
            self._events.write(event)
        except RunError:
            self._make_room()
            self._events.write(event)
        self.ended = event.kind


def _line_of(event: Event) -> str | None:
    match event:
        case PlanEvent():
            trained = ""
            if event.trainable_parameters is not None and event.total_parameters is not None:
                trained = (
                    f" {event.trainable_parameters:,} of {event.total_parameters:,} parameters "
                    "are trained,"
                )
            return (
                f"{event.total_steps:,} steps on {event.train_rows:,} rows, "
                f"{event.eval_rows:,} for evaluation;{trained} in {event.precision} "
                f"on {event.device}"
            )
        case StepEvent():
            return (
                f"step {event.step}  loss {event.loss or 0.0:.3f}  learning rate "
                f"{event.learning_rate or 0.0:.1e}  {event.tokens_per_s or 0.0:,.0f} tokens/s"
            )
        case EvalEvent():
            # RLHF has a reward in place of a loss.
            name, value = "loss", event.loss
            if value is None:
                name, value = "reward", event.metrics.get("reward")
            number = "unknown" if value is None else f"{value:.3f}"
            best = "  (best so far)" if event.best else ""
            bits = event.metrics.get("bits_per_byte")
            per_byte = "" if bits is None else f"  {bits:.3f} bits per byte"
            return f"step {event.step}  evaluation {name} {number}{per_byte}{best}"
        case CoreEvent():
            return f"step {event.step}  CORE {event.score:.3f} on {len(event.tasks)} tasks"
        case ResumedEvent(checkpoint=None):
            return "There is no checkpoint to resume from; training starts over."
        case ResumedEvent():
            return f"Resuming from {event.checkpoint}."
        case ScoresEvent():
            values = ", ".join(f"{name} {value:.3f}" for name, value in event.after.items())
            return f"On {event.rows:,} evaluation rows: {values}"
    return None


NAME = ".reserve"
BYTES = 2**15


class DiskReserve:
    """A file in a run folder, deleted when the disk is full or the worker ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def hold(self) -> None:
        """Create the file; without free disk space this does nothing."""
        with contextlib.suppress(OSError), self._path.open("wb") as file:
            file.write(bytes(BYTES))
            file.flush()
            # Some file systems allocate blocks only then.
            os.fsync(file.fileno())

    def release(self) -> None:
        """Delete the file; repeated calls do nothing."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
