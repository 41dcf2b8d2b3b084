"""Follow an export or an evaluation at the terminal, with a progress bar of the current step."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from time import sleep
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from modelforge.cli.output import escape_control
from modelforge.units import human_duration

if TYPE_CHECKING:
    from modelforge.forge import Forge
    from modelforge.runs.jobs import JobState, JobStep

POLL_S = 0.2


class FollowedView(Protocol):
    """What is shown of a job."""

    @property
    def id(self) -> str:
        """Id of the job."""

    @property
    def state(self) -> JobState:
        """State of the job."""

    @property
    def steps(self) -> Sequence[JobStep]:
        """Its steps so far."""

    @property
    def seconds_left(self) -> float | None:
        """Estimated; None unless it is in progress."""

    @property
    def queued_behind(self) -> str:
        """What it waits for; empty unless it is queued."""


ViewT = TypeVar("ViewT", bound=FollowedView)
ViewT_co = TypeVar("ViewT_co", bound=FollowedView, covariant=True)


class FollowedService(Protocol[ViewT_co]):
    """The service of the job."""

    def view(self, job_id: str, /) -> ViewT_co:
        """Return the job."""

    def stop(self, job_id: str, /) -> ViewT_co:
        """Stop the job."""


def follow_job(forge: Forge, service: FollowedService[ViewT], view: ViewT, *, quiet: bool) -> ViewT:
    """Show a job until it is over and return it. Ctrl+C stops it."""
    progress = _Progress() if not quiet else None
    try:
        while not view.state.is_over:
            if progress:
                progress.show(view)
            sleep(POLL_S)
            forge.tend()
            view = service.view(view.id)
        if progress:
            progress.show(view)
    except KeyboardInterrupt:
        view = service.stop(view.id)
        print("\nStopped.", file=sys.stderr)
    finally:
        if progress:
            progress.close()
    return view


class _Progress:
    """Shows the steps of a job as lines and, on a terminal, a bar of the current one."""

    def __init__(self) -> None:
        self._shown: set[str] = set()
        self._bar: Any = None
        if sys.stdout.isatty():
            from rich.progress import BarColumn, Progress, TextColumn

            text = TextColumn("{task.description}", markup=False)
            left = TextColumn("{task.fields[left]}", markup=False)
            self._bar = Progress(text, BarColumn(), left, transient=True)
            self._task = self._bar.add_task("", total=1.0, left="")
            self._bar.start()

    def show(self, view: FollowedView) -> None:
        """Show the state of a job."""
        if view.queued_behind:
            self._line(f"Waiting: {view.queued_behind}")
        for step in view.steps[: None if view.state.is_over else -1]:
            self._line(f"{step.text} ({human_duration(step.seconds)})", key=step.step)
        if not view.steps or view.state.is_over:
            return
        current = view.steps[-1]
        if self._bar is not None:
            left = f"about {human_duration(view.seconds_left or 0)} left"
            self._bar.update(
                self._task, description=current.text, completed=current.share, left=left
            )

    def close(self) -> None:
        """Remove the progress bar."""
        if self._bar is not None:
            self._bar.stop()

    def _line(self, text: str, key: str = "") -> None:
        if (key or text) in self._shown:
            return
        self._shown.add(key or text)
        if self._bar is None:
            print(escape_control(text), flush=True)
        else:
            self._bar.console.print(escape_control(text), markup=False, highlight=False)
