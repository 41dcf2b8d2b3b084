"""A sweep over the real queue with stand-in workers, also after a kill of the server."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from modelforge.errors import BusyError, ConfigError, NotFoundError, RunError
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.states import RunState
from modelforge.services.sweeps import service as sweeps
from modelforge.services.sweeps.record import SweepFolder
from modelforge.services.sweeps.service import SweepService
from modelforge.services.sweeps.space import read_dimensions
from modelforge.services.sweeps.study import SPREAD_TRIALS
from modelforge.services.sweeps.trials import MOST_FAILED
from tests.services.test_runs import ACTORS, asked

pytest.importorskip("optuna")
pytestmark = pytest.mark.filterwarnings("default")

STEPS, LIMIT_S = 16, 60.0
RATES = read_dimensions(["learning_rate=1e-5..1e-3"])


@dataclass(frozen=True)
class Made:
    id: str
    state: object
    report: dict[str, object] | None = None


class Evaluations:
    """Losses of 40 rows for each run: lower for the run with the lower evaluation loss."""

    def __init__(self, runs) -> None:
        self._runs = runs
        self._reports = {}

    def start(self, request, request_id):
        assert (request.answers, request.prompted, request.general) == (False, False, False)
        loss = self._runs.view(request.run).eval_loss
        metric = {
            "name": "loss",
            "label": "Loss",
            "unit": "nats",
            "direction": "lower",
            "row_values": [loss + n % 7 * 0.01 for n in range(40)],
            "row_weights": [4.0] * 40,
        }
        self._reports[request_id] = {"metrics": [metric]}
        return Made(request_id, RunState.FINISHED)

    def view(self, made_id):
        return Made(made_id, RunState.FINISHED, self._reports[made_id])


class Server:
    """A server of a home, which may be opened again."""

    def __init__(self, root: Path) -> None:
        self.forge = Forge(
            Home(root / "home"),
            worker=[sys.executable, str(ACTORS / "learns.py")],
            warm_worker=[sys.executable, "-c", ""],
        )
        forge = self.forge
        self.sweeps = SweepService(
            forge.home,
            forge.preflight,
            forge.runs,
            forge.queue,
            Evaluations(forge.runs),
            forge.targets,
        )

    def work(self, until) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not until():
            assert time.monotonic() < deadline, self.sweeps.list()
            self.sweeps.tend()
            self.forge.queue.start_next()
            time.sleep(0.02)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Work at once, and see short trials as what they cost."""
    monkeypatch.setattr(sweeps, "TEND_S", 0.0)


@pytest.fixture
def opened(tmp_path):
    servers = []

    def open_one() -> Server:
        servers.append(Server(tmp_path))
        return servers[-1]

    yield open_one
    for server in servers:
        for view in server.forge.runs.views():
            server.forge.runs.stop(view.id)
        server.forge.close()


def settings(model, data, **more):
    return asked(model, data, max_steps=STEPS, **{"learning_rate": 2e-5, **more})


def shorten(server: Server, sweep: str, seconds: float) -> None:
    """Let a sweep be over after some seconds from now."""
    folder = SweepFolder(server.forge.home.sweeps / sweep)
    folder.write(replace(folder.record(), deadline=time.time() + seconds))


def test_better_values_are_found_and_the_worse_trials_stop_early(opened, model, data):
    server = opened()
    sweep = server.sweeps.start(settings(model, data), dimensions=RATES, budget_s=36_000.0)
    server.work(lambda: len(server.sweeps.view(sweep).trials) > 8)
    shorten(server, sweep, 0.0)
    server.work(lambda: server.sweeps.view(sweep).is_over)
    view = server.sweeps.view(sweep)
    own = view.trials[0]
    assert (own.state, own.values["learning_rate"]) == ("complete", 2e-5)
    best = view.trials[view.best]
    assert best.loss < own.loss
    behind = [each for each in view.trials[1:-1] if each.state == "pruned"]
    assert behind
    assert all(max(each.losses) < STEPS for each in behind)
    assert view.result["kind"] == "better"
    assert "Use the best trial" in view.result["sentence"]
    assert view.result["values"] == best.values


def test_early_trials_pause_and_the_better_half_goes_on_in_the_same_runs(
    opened, model, data, monkeypatch
):
    monkeypatch.setenv("MODELFORGE_ACTOR_PACE", "0.5")  # seen before the next rung
    server = opened()
    sweep = server.sweeps.start(settings(model, data), dimensions=RATES, budget_s=36_000.0)

    def trials():
        return server.sweeps.view(sweep).trials

    server.work(lambda: sum(each.paused > 0 for each in trials()) == SPREAD_TRIALS)
    first = {each.number: each.run for each in trials()}
    assert all(each.paused == 2 and set(each.losses) == {2} for each in trials()[1:])
    server.work(lambda: len(trials()) > SPREAD_TRIALS + 1)
    ended = trials()[1 : SPREAD_TRIALS + 1]
    assert {each.number: each.run for each in trials()[: SPREAD_TRIALS + 1]} == first
    order = sorted(ended, key=lambda each: each.losses[2])
    assert [max(each.losses) for each in order] == [STEPS, 4, 4, 2, 2, 2]
    assert [each.state for each in order] == ["complete", *["pruned"] * 5]
    # What does not go on leaves no model, and can be resumed no more.
    for each in order[1:]:
        folder = server.forge.runs.folder(each.run)
        assert folder.stop.read_text("utf-8") == "discard"
        assert not folder.output.exists()
        assert not folder.checkpoints.exists()


@pytest.mark.parametrize("killed", ["before it is queued", "when it is queued", "when it trains"])
def test_a_paused_trial_that_was_about_to_go_on_does_so_after_a_kill(opened, model, data, killed):
    server = opened()
    sweep = server.sweeps.start(settings(model, data), dimensions=RATES, budget_s=36_000.0)

    def paused():
        return [each for each in server.sweeps.view(sweep).trials if each.paused]

    server.work(lambda: len(paused()) == SPREAD_TRIALS)
    best = min(paused(), key=lambda each: each.losses[2])
    study = sweeps._study(*server.sweeps._find(sweep))
    study.set_until(best.number, 4)  # killed while it goes on
    if killed != "before it is queued":
        server.forge.queue.add_resume(best.run)
    if killed == "when it trains":
        server.forge.queue.start_next()
    again = opened()
    again.work(lambda: again.sweeps.view(sweep).trials[best.number].losses.keys() >= {2, 4})
    again.work(lambda: len(again.sweeps.view(sweep).trials) > SPREAD_TRIALS + 1)
    trial = again.sweeps.view(sweep).trials[best.number]
    assert (trial.run, trial.state) == (best.run, "complete")


def test_a_paused_trial_whose_resume_leaves_the_queue_is_dropped(opened, model, data):
    server = opened()
    sweep = server.sweeps.start(settings(model, data), dimensions=RATES, budget_s=36_000.0)

    def queued_again():
        runs = {each.run for each in server.sweeps.view(sweep).trials if each.losses}
        return [each.run for each in server.forge.queue.view().runs if each.run in runs]

    deadline = time.monotonic() + LIMIT_S
    while not queued_again():
        assert time.monotonic() < deadline
        server.sweeps.tend()
        if not queued_again():
            server.forge.queue.start_next()
    (run,) = queued_again()
    server.forge.queue.remove(run)
    server.sweeps.tend()
    trial = next(each for each in server.sweeps.view(sweep).trials if each.run == run)
    assert trial.state == "pruned"


def test_a_trial_that_has_come_to_its_last_step_is_kept_at_the_deadline(opened, model, data):
    server = opened()
    sweep = server.sweeps.start(settings(model, data), dimensions=RATES, budget_s=36_000.0)

    def at_the_last_step():
        return any(STEPS in each.losses for each in server.sweeps.view(sweep).trials)

    server.work(at_the_last_step)
    shorten(server, sweep, 0.0)
    server.work(lambda: server.sweeps.view(sweep).is_over)
    assert [each.state for each in server.sweeps.view(sweep).trials] == ["complete"]


def test_a_trial_that_waits_in_the_queue_ends_with_a_stop(opened, model, data):
    server = opened()
    sweep = server.sweeps.start(settings(model, data), dimensions=RATES, budget_s=36_000.0)
    server.sweeps.tend()
    (waiting,) = server.forge.queue.view().runs  # nothing starts it
    server.sweeps.stop(sweep)
    for _ in range(3):
        server.sweeps.tend()
    view = server.sweeps.view(sweep)
    assert (view.is_over, view.result["kind"]) == (True, "no-result")
    assert server.forge.queue.view().runs == []
    assert waiting.run not in [each.id for each in server.forge.runs.views()]


def test_a_paused_trial_that_waits_again_ends_with_a_stop(opened, model, data):
    server = opened()
    sweep = server.sweeps.start(settings(model, data), dimensions=RATES, budget_s=36_000.0)

    def paused():
        return [each for each in server.sweeps.view(sweep).trials if each.paused]

    server.work(lambda: len(paused()) == SPREAD_TRIALS)
    server.sweeps.tend()
    (waiting,) = server.forge.queue.view().runs
    server.sweeps.stop(sweep)
    server.work(lambda: server.sweeps.view(sweep).is_over)
    trials = server.sweeps.view(sweep).trials
    assert [each.state for each in trials] == ["complete", *["pruned"] * SPREAD_TRIALS]
    assert server.forge.queue.view().runs == []
    assert not server.forge.runs.folder(waiting.run).checkpoints.exists()


def test_a_killed_server_goes_on_with_the_same_trials(opened, model, data):
    first = opened()
    sweep = first.sweeps.start(settings(model, data), dimensions=RATES, budget_s=36_000.0)
    first.work(lambda: len(first.sweeps.view(sweep).trials) > 2)
    seen = {each.number: each.run for each in first.sweeps.view(sweep).trials if each.run}
    second = opened()  # the first one does nothing more, as if it were killed
    second.work(lambda: len(second.sweeps.view(sweep).trials) > 4)
    now = {each.number: each.run for each in second.sweeps.view(sweep).trials}
    assert {number: now[number] for number in seen} == seen
    runs = [each.run for each in second.sweeps.view(sweep).trials if each.run]
    assert len(set(runs)) == len(runs)
    assert len(second.forge.runs.views()) == len(runs)


def test_a_trial_that_was_asked_for_before_a_kill_gets_one_run(opened, model, data):
    server = opened()
    sweep = server.sweeps.start(settings(model, data), dimensions=RATES, budget_s=36_000.0)
    folder, record = server.sweeps._find(sweep)
    study = sweeps._study(folder, record)
    study.begin(record.own)
    study.ask()  # killed here, before the run was queued
    server.sweeps.tend()
    (trial,) = server.sweeps.view(sweep).trials
    assert trial.run == server.forge.runs.views()[0].id


def test_a_stopped_sweep_ends_its_trial_and_has_a_result(opened, model, data):
    server = opened()
    sweep = server.sweeps.start(settings(model, data), dimensions=RATES, budget_s=36_000.0)
    server.work(lambda: server.sweeps.view(sweep).best is not None)
    server.sweeps.stop(sweep)
    server.work(lambda: server.sweeps.view(sweep).is_over)
    assert all(not each.is_running for each in server.sweeps.view(sweep).trials)
    assert server.forge.queue.view().runs == []


def test_a_trial_that_fails_does_not_end_the_others(opened, model, data):
    server = opened()
    wide = read_dimensions(["learning_rate=1e-8..1e-3"])
    sweep = server.sweeps.start(
        settings(model, data, learning_rate=3e-4), dimensions=wide, budget_s=36_000.0
    )

    def failed():
        return [each for each in server.sweeps.view(sweep).trials if each.state == "fail"]

    server.work(failed)
    assert failed()[0].reason == "The loss is not a number."
    count = len(server.sweeps.view(sweep).trials)
    server.work(lambda: len(server.sweeps.view(sweep).trials) > count + 1)
    server.sweeps.stop(sweep)
    server.work(lambda: server.sweeps.view(sweep).is_over)
    assert server.sweeps.view(sweep).result["kind"] == "own"


def test_a_sweep_whose_trials_all_fail_ends_before_its_deadline(opened, model, data):
    server = opened()
    tiny = read_dimensions(["learning_rate=1e-12..1e-10"])
    own = settings(model, data, learning_rate=3e-4)
    sweep = server.sweeps.start(own, dimensions=tiny, budget_s=36_000.0)
    server.work(lambda: server.sweeps.view(sweep).is_over)
    view = server.sweeps.view(sweep)
    assert [each.state for each in view.trials] == ["complete", *["fail"] * MOST_FAILED]
    assert view.result["kind"] == "own"


def test_settings_without_effect_are_not_varied(opened, model, data):
    server = opened()
    without = settings(model, data, **{"adapter.enabled": False, "use_4bit": False})
    with pytest.raises(ConfigError, match="effect only with an adapter"):
        server.sweeps.start(without, dimensions=read_dimensions(["lora_r=8,16"]), budget_s=36_000.0)
    assert server.sweeps.list() == []


def test_the_settings_of_a_trial_are_those_of_the_user_with_its_values(opened, model, data):
    server = opened()
    sweep = server.sweeps.start(settings(model, data), dimensions=RATES, budget_s=36_000.0)
    server.work(lambda: len(server.sweeps.view(sweep).trials) > 1)
    trial = server.sweeps.view(sweep).trials[1]
    own, values = server.sweeps.settings(sweep, 1)
    assert (own["max_steps"], values) == (STEPS, trial.values)
    with pytest.raises(NotFoundError):
        server.sweeps.settings(sweep, 99)


def test_a_damaged_study_does_not_keep_other_sweeps_and_the_queue_from_working(opened, model, data):
    server = opened()
    start = {"dimensions": RATES, "budget_s": 36_000.0}
    damaged = server.sweeps.start(settings(model, data), **start)
    server.sweeps.tend()
    (server.forge.home.sweeps / damaged / "study.journal").write_bytes(b"\x00 no journal\n" * 9)
    sweep = server.sweeps.start(settings(model, data), **start)
    server.work(lambda: server.sweeps.view(sweep).trials)
    assert [each.id for each in server.sweeps.list()] == [sweep]
    with pytest.raises(RunError, match=f"modelforge sweeps {damaged} --delete"):
        server.sweeps.view(damaged)
    server.sweeps.delete(damaged)
    assert [path.name for path in server.forge.home.sweeps.iterdir()] == [sweep]


def test_a_sweep_that_is_over_is_deleted_and_its_trials_stay(opened, model, data):
    server = opened()
    sweep = server.sweeps.start(settings(model, data), dimensions=RATES, budget_s=36_000.0)
    server.work(lambda: server.sweeps.view(sweep).best is not None)
    with pytest.raises(BusyError, match="Stop it first"):
        server.sweeps.delete(sweep)
    server.sweeps.stop(sweep)
    server.work(lambda: server.sweeps.view(sweep).is_over)
    runs = [each.id for each in server.forge.runs.views()]
    server.sweeps.delete(sweep)
    assert server.sweeps.list() == []
    assert list(server.forge.home.sweeps.iterdir()) == []
    assert [each.id for each in server.forge.runs.views()] == runs
    with pytest.raises(NotFoundError):
        server.sweeps.delete(sweep)


def test_what_cannot_be_a_sweep_creates_nothing(opened, model, data):
    server = opened()
    with pytest.raises(ConfigError, match="too short"):
        server.sweeps.start(settings(model, data), dimensions=RATES, budget_s=1.0)
    without = settings(model, data, eval_split=0)
    with pytest.raises(ConfigError, match="no evaluation"):
        server.sweeps.start(without, dimensions=RATES, budget_s=36_000.0)
    with pytest.raises(NotFoundError):
        server.sweeps.view("../../etc")
    assert server.sweeps.list() == []
    assert list(server.forge.home.sweeps.glob("*")) == []
