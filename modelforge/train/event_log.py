"""Says each thing twice: an event for the app, a plain line for the log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any

from modelforge.errors import RunError
from modelforge.runs.events import EventWriter

PHASE_EVERY_S = 0.25
SAMPLE_CHARS = 2000


class EventLog:
    """Writes events and log lines. A phase is told at its start, then four times a second.

    `ended` is the last milestone told, or None while the run goes on. `make_room` gives back room
    on the disk that was held for the last one.
    """

    def __init__(
        self, events: EventWriter, *, make_room: Callable[[], None] = lambda: None
    ) -> None:
        self._events = events
        self._make_room = make_room
        self._text = ""
        self._told = 0.0
        self.ended: str | None = None

    def say(self, text: str) -> None:
        """Print one line to the log; a disk that does not take it is no reason to end."""
        with contextlib.suppress(OSError):
            sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {text}\n")

    def phase(
        self, name: str, text: str, *, done: int | None = None, total: int | None = None
    ) -> None:
        """Tell which part of the work goes on, and how far it is."""
        now = time.monotonic()
        is_end = total is not None and done == total
        if text == self._text and not is_end and now - self._told < PHASE_EVERY_S:
            return
        if text != self._text:
            self.say(f"{text} …")
        self._text, self._told = text, now
        counted = {} if total is None else {"done": done, "total": total}
        self._events.write("phase", name=name, text=text, **counted)

    def note(self, code: str, text: str) -> None:
        """Tell something a person may want to know."""
        self.say(text)
        self._events.write("note", code=code, text=text)

    def plan(self, **facts: Any) -> None:
        """Tell what is really going to be run."""
        self.say(
            f"{facts['total_steps']:,} updates on {facts['train_rows']:,} rows, "
            f"{facts['eval_rows']:,} held out; {facts['trainable_parameters']:,} of "
            f"{facts['total_parameters']:,} parameters are trained, in {facts['precision']} "
            f"on {facts['device']}"
        )
        self._events.write("plan", **facts)

    def step(self, **numbers: Any) -> None:
        """Tell how the updates since the last telling went."""
        self._events.write("step", **numbers)
        rate = numbers["learning_rate"]
        self.say(
            f"update {numbers['step']}  loss {numbers['loss']:.3f}  "
            f"rate {0.0 if rate is None else rate:.1e}  {numbers['tokens_per_s']:,.0f} tok/s"
        )

    def evaluation(
        self,
        *,
        step: int,
        epoch: float | None,
        loss: float | None,
        best: bool,
        metrics: dict[str, float] | None = None,
        **more: Any,
    ) -> None:
        """Tell the loss on held-out rows, and what else was measured; rewards have no loss."""
        told = {"step": step, "epoch": epoch, "loss": loss, "best": best, "metrics": metrics or {}}
        self._events.write("eval", **told, **more)
        self._text = ""
        reward = (metrics or {}).get("reward")
        name, value = ("loss", loss) if loss is not None else ("reward", reward)
        number = "unknown" if value is None else f"{value:.3f}"
        self.say(f"update {step}  held-out {name} {number}" + ("  (best so far)" if best else ""))

    def saved(self, *, step: int, path: str, best: bool) -> None:
        """Tell that a checkpoint was written."""
        self._events.write("saved", step=step, path=path, best=best)

    def adjusted(self, *, why: str, **numbers: Any) -> None:
        """Tell that less is computed at once from now on; what is learned stays the same."""
        self._events.write("adjusted", why=why, **numbers)
        again = ", and activations are computed again" if numbers["gradient_checkpointing"] else ""
        text = (
            f"{why} From update {numbers['step']:,} on {numbers['micro_batch']} rows are taken at "
            f"a time, {numbers['accumulation']} times an update{again}; what is learned stays the "
            "same."
        )
        self.note("memory-adjusted", text)

    def measured(self, kind: str, **numbers: Any) -> None:
        """Tell what a rehearsal has measured, of one stage or of all."""
        self._events.write(kind, **numbers)

    def resumed(
        self, *, step: int, stage: int | None, checkpoint: str | None, damaged: list[dict[str, str]]
    ) -> None:
        """Tell that the run goes on from a checkpoint, or begins anew without one."""
        told = {"step": step, "stage": stage, "checkpoint": checkpoint, "damaged": damaged}
        self._events.write("resumed", **told)
        if checkpoint is None:
            self.say("There is no checkpoint to go on from; it begins anew.")
        else:
            self.say(f"Goes on from {checkpoint}.")

    def sample(self, *, step: int, prompt: str, completion: str, **more: Any) -> None:
        """Tell one answer that the model gave while it learned."""
        texts = {"prompt": prompt[:SAMPLE_CHARS], "completion": completion[:SAMPLE_CHARS]}
        self._events.write("sample", step=step, **texts, **more)

    def scores(
        self, *, rows: int, after: dict[str, float], before: dict[str, float] | None = None
    ) -> None:
        """Tell what the answers to held-out rows are worth, before and after the training."""
        self._events.write("scores", rows=rows, before=before, after=after)
        told = ", ".join(f"{name} {value:.3f}" for name, value in after.items())
        self.say(f"On {rows:,} held-out rows: {told}")

    def end(self, kind: str, **data: Any) -> None:
        """Tell how the run ended; on a full disk there is room for it that was held until now."""
        try:
            self._events.write(kind, **data)
        except RunError:
            self._make_room()
            self._events.write(kind, **data)
        self.ended = kind
