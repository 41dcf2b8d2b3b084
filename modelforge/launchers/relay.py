"""The relay of a run that trains elsewhere: submit it once, follow it, bring it home.

It may be killed at any time. What it has done is in `launch.json` and in the files of the run, and
the next relay continues from there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from modelforge.errors import ForgeError, Problem, RunError
from modelforge.launchers.bring_home import take
from modelforge.launchers.bundle import make_bundle
from modelforge.launchers.launcher import Launcher, Progress, StopMode, UnreachableError
from modelforge.paths import Home
from modelforge.runs.atomic_files import disk_error, find_json
from modelforge.runs.event_types import ENDINGS, FailedEvent, FinishedEvent, StoppedEvent
from modelforge.runs.events import EventWriter, newest_milestone, parse_lines, size_of
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.launch import Launch, read_launch, write_launch
from modelforge.runs.process.lock import exclusive

T = TypeVar("T")
# Waits between two looks at a job: the first, and the longest while it writes nothing.
POLL_S, MAX_POLL_S = 1.0, 10.0
# Waits between attempts while there is no connection: 1, 2, 4 … seconds.
MAX_WAIT_S = 60.0
# Before the submission nothing is lost: then the run ends with the cause.
ATTEMPTS_BEFORE = 3
# A request to discard the run does not wait longer for a target that does not answer.
GIVE_UP_S = 60.0
# A job that writes nothing for this time after a request to stop is killed.
STOP_S = 300.0
STAGED = ".from-target"


class RunEndedError(Exception):
    """The relay has nothing more to do."""


class Relay:
    """Does one run elsewhere."""

    def __init__(self, run: RunFolder, home: Home, launcher: Launcher, launch: Launch) -> None:
        self._run = run
        self._home = home
        self._launcher = launcher
        self._launch = launch
        self._ending = b""
        self._passed: StopMode | None = None
        self._moved = time.monotonic()

    def work(self) -> None:
        """Do the run to its end. Raises RunError only if this disk cannot be written."""
        try:
            with exclusive(self._run.path / ".relay.lock", timeout_s=1.0):
                _cut_torn_line(self._run.events)
                since = (find_json(self._run.process) or {}).get("after", 0)
                if newest_milestone(self._run.events, since) in ENDINGS:
                    self._end()
                if not self._launch.job:
                    self._set(job=f"{self._run.id}-{secrets.token_hex(3)}")
                if not self._is_submitted():
                    self._submit()
                self._follow()
        except RunEndedError:
            pass
        finally:
            self._launcher.close()

    # Submission

    def _is_submitted(self) -> bool:
        """Return whether the job exists; one whose submission was interrupted is looked for."""
        if self._launch.submitted is None:
            return False
        if not self._launch.id:
            found = self._patiently(lambda: self._launcher.find(self._launch))
            self._set(id=found or "")
        return bool(self._launch.id)

    def _submit(self) -> None:
        """Bring the run there and submit it, or end it with the cause."""
        try:
            bundle = make_bundle(self._run, self._home, self._launch.target)
            home = self._at_first(lambda: self._launcher.prepare(bundle, self._report))
        except ForgeError as error:
            self._fail(error.problems[0])
        except Exception as error:  # noqa: BLE001  # the outermost frame: a crash becomes an event
            traceback.print_exc()
            self._fail(Problem("relay", f"{type(error).__name__}: {error}", "See relay.log."))
        self._end_if_stopped()
        self._report("Starting the run there")
        files = {name: str(path) for name, path in bundle.files.items()}
        log_from = max(0, size_of(self._run.log))
        self._set(home=home, files=files, log_from=log_from, submitted=time.time())

        def submit() -> str:
            # After a lost connection it may be there.
            return self._launcher.find(self._launch) or self._launcher.submit(bundle, self._launch)

        try:
            self._set(id=self._patiently(submit, UnreachableError), note="")
        except ForgeError as error:
            self._fail(error.problems[0])

    def _at_first(self, action: Callable[[], T]) -> T:
        """Do something before the submission; raises UnreachableError after three attempts."""
        for attempt in range(ATTEMPTS_BEFORE - 1):
            try:
                return action()
            except UnreachableError as error:
                self._end_if_stopped()
                self._report(f"{error.problems[0].sentence} The next attempt is in {2**attempt} s.")
                time.sleep(2**attempt)
        return action()

    def _end_if_stopped(self) -> None:
        if self._run.stop.exists():
            with EventWriter(self._run.events) as events:
                events.write(StoppedEvent(step=0, kept=False))
            self._end()

    def _fail(self, problem: Problem) -> None:
        with EventWriter(self._run.events) as events:
            what, remedy = problem.sentence, problem.remedy
            events.write(FailedEvent(cause="target", what=what, remedy=remedy))
        self._end()

    def _end(self, what: str = "", remedy: str = "") -> NoReturn:
        """Note that nothing is left to do; `what` is why the run is lost."""
        over = {"is_over": True, "note": "", "no_connection_since": None}
        self._set(**over, what=what, remedy=remedy)
        raise RunEndedError

    # The job

    def _follow(self) -> None:
        """Copy what the job writes, until it has ended and its files are here."""
        wait = POLL_S
        while True:
            moved = self._moved
            progress = self._patiently(self._look)
            self._set(note=progress.note, cost=progress.cost or self._launch.cost)
            if progress.state == "ended":
                self._finish(progress)
            wait = min(2 * wait, MAX_POLL_S) if moved == self._moved else POLL_S
            self._wait(wait)

    def _look(self) -> Progress:
        self._pass_stop()
        log_at = max(0, size_of(self._run.log) - self._launch.log_from)
        events_at = max(0, size_of(self._run.events))
        progress = self._launcher.poll(self._launch, self._run.id, events_at, log_at)
        if progress.events or progress.log:
            lines, ending = _split(progress.events)
            if lines or progress.log or ending != self._ending:
                self._moved = time.monotonic()
            self._ending = ending
            _append(self._run.events, lines)
            _append(self._run.log, progress.log)
        return progress

    def _pass_stop(self) -> None:
        mode = _stop_mode(self._run)
        if mode is None:
            return
        if mode != self._passed:
            self._launcher.stop(self._launch, self._run.id, mode)
            self._passed, self._moved = mode, time.monotonic()
        elif time.monotonic() - self._moved > STOP_S:
            self._launcher.stop(self._launch, self._run.id, mode, kill=True)

    def _finish(self, progress: Progress) -> None:
        """Bring the files home, then write how the run ended."""
        kind = next((record.kind for record in parse_lines(self._ending)), None)
        is_finished = kind == FinishedEvent.kind
        self._report(f"Copying the result from {self._launch.target.name}")
        try:
            self._patiently(lambda: self._fetch(checkpoints=not is_finished), UnreachableError)
        except ForgeError as error:
            self._end(error.problems[0].sentence, error.problems[0].remedy)
        _append(self._run.events, self._ending)
        if kind is None:
            what = progress.cause or "The process there ended without a message."
            self._end(what, "Resume the run there, or here.")
        self._end()

    def _fetch(self, *, checkpoints: bool) -> None:
        fetch_run(self._run, self._launcher, self._launch, checkpoints=checkpoints)

    # Connections

    def _patiently(self, action: Callable[[], T], kind: type[ForgeError] = ForgeError) -> T:
        """Do something that needs a connection, again and again until there is one.

        Every error of `kind` counts as one of the connection: the job goes on meanwhile.
        """
        wait = POLL_S
        while True:
            try:
                result = action()
            except kind as error:
                self._note_no_connection(error.problems[0])
            else:
                if self._launch.no_connection_since is not None:
                    self._set(no_connection_since=None, note="")
                return result
            self._give_up_if_discarded()
            self._wait(wait)
            wait = min(2 * wait, MAX_WAIT_S)

    def _wait(self, seconds: float) -> None:
        """Wait; a request to stop ends the wait."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and _stop_mode(self._run) in (None, self._passed):
            time.sleep(0.2)

    def _note_no_connection(self, problem: Problem) -> None:
        since = self._launch.no_connection_since or time.time()
        self._set(no_connection_since=since, note=f"{problem.sentence} {problem.remedy}".strip())

    def _give_up_if_discarded(self) -> None:
        """End a run that is to be discarded if its target does not answer."""
        since = self._launch.no_connection_since
        if _stop_mode(self._run) == "discard" and since and time.time() - since > GIVE_UP_S:
            self._end("The target did not answer. Its process there may still run.")

    # The record

    def _report(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)  # noqa: T201  # relay.log
        self._set(note=text)

    def _set(self, **parts: object) -> None:
        changed = self._launch.changed(**parts)
        if changed != self._launch:
            self._launch = changed
            write_launch(self._run.launch, changed)


def fetch_run(run: RunFolder, launcher: Launcher, launch: Launch, *, checkpoints: bool) -> None:
    """Bring the files of a run home; raises UnreachableError and RunError."""
    staged = run.path / STAGED
    staged.mkdir(exist_ok=True)
    launcher.fetch(launch, run.id, staged, checkpoints=checkpoints)
    there = {f"{launch.home}/{name}": path for name, path in launch.files.items()}
    take(staged, run, there | {f"{launch.home}/runs/{run.id}": str(run.path)})
    shutil.rmtree(staged, ignore_errors=True)


def _split(data: bytes) -> tuple[bytes, bytes]:
    """Return the complete lines before an ending event, and those from it on."""
    lines = data[: data.rfind(b"\n") + 1]
    position = 0
    for line in lines.splitlines(keepends=True):
        if any(record.kind in ENDINGS for record in parse_lines(line)):
            return lines[:position], lines[position:]
        position += len(line)
    return lines, b""


def _append(path: Path, data: bytes) -> None:
    if not data:
        return
    try:
        with path.open("ab", buffering=0) as file:
            file.write(data)
    except OSError as error:
        raise disk_error(error, path) from error


def _cut_torn_line(path: Path) -> None:
    """Remove the incomplete last line that a killed relay has left."""
    with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
        data = file.read()
        end = data.rfind(b"\n") + 1
        if end != len(data):
            file.truncate(end)
            os.fsync(file.fileno())


def _stop_mode(run: RunFolder) -> StopMode | None:
    try:
        text = run.stop.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except OSError:
        return "keep"
    return "discard" if text == "discard" else "keep"


def open_run(path: Path) -> tuple[RunFolder, Launch]:
    """Return a run and its record; raises RunError for a run that trains here."""
    run = RunFolder(path)
    launch = read_launch(run.launch)
    if launch is None:
        problem = Problem(run.id, "The run has no target.", "It is trained on this computer.")
        raise RunError(problem)
    return run, launch
