"""A home with runs, and stand-in workers to play in them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelforge.paths import Home
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.identity import kill_tree, wait_ended
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.states import RunState, read_facts
from modelforge.runs.store import NewRun, Store

ACTORS = Path(__file__).parents[1] / "actors"
PATIENCE_S = 0.4


class Stage:
    """Everything a test of runs arranges: a home, its store, runs and supervisors."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.store = Store(home)

    def actor(self, name: str, *habits: str) -> list[str]:
        return [sys.executable, str(ACTORS / f"{name}.py"), *habits]

    def playing(self, actor: str, **more: Any) -> Supervisor:
        settings = {"stop_timeout_s": PATIENCE_S, "exit_timeout_s": PATIENCE_S} | more
        return Supervisor(self.home, command=self.actor(actor), **settings)

    def new_run(self, **more: Any) -> RunFolder:
        announce = more.pop("announce", None)
        return self.store.create(NewRun(**{"name": "a run", **more}), announce)

    def until(self, condition: Callable[[], Any], what: str, limit_s: float = 10.0) -> Any:
        deadline = time.monotonic() + limit_s
        while not (seen := condition()):
            assert time.monotonic() < deadline, f"waited {limit_s} s for {what}; last: {seen!r}"
            time.sleep(0.01)
        return seen

    def until_state(self, supervisor: Supervisor, run: RunFolder, state: RunState) -> None:
        seen: list[RunState] = []

        def reached() -> bool:
            now = supervisor.state(run)
            if not seen or seen[-1] is not now:
                seen.append(now)
            return now is state

        try:
            self.until(reached, f"the state {state}")
        except AssertionError as error:
            log = run.log.read_text() if run.log.exists() else ""
            raise AssertionError(f"{error}; states seen: {seen}; log: {log}") from None

    def started(self, actor: str, run: RunFolder, **more: Any) -> Supervisor:
        supervisor = self.playing(actor, **more)
        supervisor.start(run)
        self.until_state(supervisor, run, RunState.RUNNING)
        return supervisor

    def gone(self, run: RunFolder) -> bool:
        return not read_facts(run).alive


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(Home(tmp_path / "home"))
    yield stage
    for path in stage.home.runs.glob("*/"):
        who = read_facts(RunFolder(path)).process
        if who is not None and who.alive:
            kill_tree(who)
            assert wait_ended(who, 5.0)


@pytest.fixture
def run(stage: Stage) -> RunFolder:
    return stage.new_run()
