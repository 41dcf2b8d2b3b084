"""The queue over real files and processes, with stand-in workers and several servers."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time

import pytest

from modelforge.errors import (
    BlockedError,
    BusyError,
    ConfigError,
    ForgeError,
    NotFoundError,
    Problem,
    RunError,
)
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.atomic_files import write_json
from modelforge.runs.process.identity import kill_tree, wait_ended
from modelforge.runs.scheduling.schedule_times import Clock
from modelforge.runs.states import RunState, read_facts
from modelforge.services.queue import QueueService
from tests.services.test_runs import ACTORS, asked, until

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def server(tmp_path):
    """Open a server on the one home; its workers play the named actor."""
    forges: list[Forge] = []

    def open_one(actor: str = "obeys") -> Forge:
        def play(name: str) -> list[str]:
            return [sys.executable, str(ACTORS / f"{name}.py")]

        home = Home(tmp_path / "home")
        forges.append(Forge(home, worker=play(actor), chat_process=play("talks")))
        return forges[-1]

    yield open_one
    for forge in forges:
        forge.close()
        for folder in (forge.runs.folder(view.id) for view in forge.runs.views()):
            who = read_facts(folder).process
            if who is not None:
                kill_tree(who)
                assert wait_ended(who, 5.0)


@pytest.fixture
def forge(server):
    return server()


@pytest.fixture
def question(model, data):
    return asked(model, data)


def names(forge: Forge) -> list[str]:
    return [run.name for run in forge.queue.view().runs]


def ended(forge: Forge, run_id: str) -> None:
    until(lambda: forge.runs.state(run_id).is_over, "the run is over")


def test_runs_wait_their_turn_and_follow_each_other(server, question):
    forge = server("finishes")
    first, second = (forge.queue.add(question, name=name) for name in ("one", "two"))
    assert names(forge) == ["one", "two"]
    assert forge.runs.state(first) is RunState.QUEUED
    assert forge.queue.start_next() == first
    until(lambda: forge.queue.start_next() == second, "the second follows")
    ended(forge, second)
    assert forge.runs.view(second).ending["kind"] == "finished"
    assert forge.queue.view().code == "empty"


def test_a_run_that_trains_is_waited_for_and_named(forge, question):
    running = forge.runs.start(question, name="the first")
    waiting = forge.queue.add(question)
    assert forge.queue.start_next() is None
    view = forge.queue.view()
    assert view.code == "busy"
    assert "the first" in view.why
    forge.runs.stop(running)
    until(lambda: forge.queue.start_next() == waiting, "the next one starts")


def test_tending_is_enough(server, question):
    forge = server("finishes")
    run = forge.queue.add(question)
    until(lambda: (forge.tend(), forge.runs.state(run))[1].is_over, "the run is over")


def test_what_is_held_or_has_a_later_time_is_passed_over(forge, question):
    held = forge.queue.add(question, name="held", held=True)
    later = forge.queue.add(question, name="later", start_after="+2h")
    now = forge.queue.add(question, name="now")
    assert forge.queue.start_next() == now
    forge.runs.stop(now)
    ended(forge, now)
    assert forge.queue.start_next() is None
    view = forge.queue.view()
    assert view.code == "later"
    assert view.runs[1].when in view.why
    forge.queue.release(held)
    forge.queue.start_after(later, None)
    assert [run.held or bool(run.when) for run in forge.queue.view().runs] == [False, False]


def test_a_run_that_gets_another_name_is_queued_under_it(forge, question):
    forge.queue.hold()
    run = forge.queue.add(question, name="first")
    assert [each.name for each in forge.queue.view().runs] == ["first"]
    record = forge.runs.folder(run).config
    write_json(record, json.loads(record.read_text("utf-8")) | {"name": "second"})
    assert [each.name for each in forge.queue.view().runs] == ["second"]


def test_the_order_is_changed_by_hand_and_runs_are_removed(forge, question):
    first, second, third = (forge.queue.add(question, name=name) for name in "abc")
    forge.queue.move(third, 1)
    assert names(forge) == ["c", "a", "b"]
    forge.queue.remove(first)
    assert names(forge) == ["c", "b"]
    with pytest.raises(NotFoundError):
        forge.runs.view(first)
    shutil.rmtree(forge.runs.folder(second).path)
    assert names(forge) == ["c"]
    for change in (forge.queue.hold, forge.queue.release, forge.queue.remove):
        with pytest.raises(NotFoundError, match="not in the queue"):
            change(first)


def test_a_held_queue_starts_nothing_until_it_is_released(forge, question):
    run = forge.queue.add(question)
    forge.queue.hold()
    assert forge.queue.start_next() is None
    assert forge.queue.view().code == "held"
    forge.queue.release()
    assert forge.queue.start_next() == run


def test_after_a_failure_the_queue_continues_or_stops_as_set(server, question):
    forge = server("fails")
    forge.queue.settings(go_on_after_failure=False)
    first, second = (forge.queue.add(question, name=name) for name in ("one", "two"))
    assert forge.queue.start_next() == first
    ended(forge, first)
    assert forge.queue.start_next() is None
    assert "“one” failed" in forge.queue.view().why
    forge.queue.release()
    assert forge.queue.start_next() == second
    third = forge.queue.add(question)
    ended(forge, second)
    assert forge.queue.start_next() is None
    forge.queue.settings(go_on_after_failure=True)
    assert forge.queue.start_next() == third


def test_a_run_that_cannot_start_is_held_with_the_reason_and_the_next_one_starts(
    forge,
    question,
    model,
    data,
    tmp_path,
):
    gone = tmp_path / "gone.jsonl"
    gone.write_bytes(data.read_bytes())
    first = forge.queue.add(asked(model, gone))
    second = forge.queue.add(question)
    gone.unlink()
    assert forge.queue.start_next() == second
    entry = forge.queue.view().runs[0]
    assert (entry.run, entry.held) == (first, True)
    assert "gone.jsonl" in entry.why_held


def test_a_worker_that_cannot_be_started_holds_its_run(server, question, tmp_path):
    forge = Forge(Home(tmp_path / "home"), worker=[str(tmp_path / "no-such-program")])
    run = forge.queue.add(question)
    assert forge.queue.start_next() is None
    entry = forge.queue.view().runs[0]
    assert entry.held
    assert "no-such-program" in entry.why_held
    assert forge.runs.state(run) is RunState.QUEUED
    again = server()
    again.queue.release(run)
    assert again.queue.start_next() == run


def test_what_start_refuses_the_queue_refuses_and_nothing_is_made(forge, model, data):
    for more, error in (({"lora_r": 0}, ConfigError), ({"strategy": "dpo"}, BlockedError)):
        with pytest.raises(error):
            forge.queue.add(asked(model, data, **more))
    with pytest.raises(ConfigError):
        forge.queue.add(asked(model, data), start_after="whenever")
    assert forge.runs.views() == []


def test_a_server_that_starts_anew_goes_on_with_the_queue(server, question):
    first = server("finishes")
    runs = [first.queue.add(question) for _ in range(3)]
    first.queue.move(runs[2], 1)
    first.close()
    second = server("finishes")
    started = []
    until(
        lambda: (
            (started.append(second.queue.start_next()), None not in started[-1:] or 0)
            and len([run for run in started if run]) == 3
        ),
        "all three have started",
    )
    assert [run for run in started if run] == [runs[2], runs[0], runs[1]]


def test_a_lost_file_loses_no_run(forge, question):
    runs = [forge.queue.add(question) for _ in range(2)]
    forge.home.queue.unlink()
    assert [run.run for run in forge.queue.view().runs] == runs
    assert forge.queue.start_next() in runs


def test_two_servers_start_each_run_once(server, question):
    servers = [server("finishes") for _ in range(2)]
    runs = [servers[0].queue.add(question) for _ in range(4)]
    started: list[str] = []

    def work(forge: Forge) -> None:
        deadline = time.monotonic() + 20
        while forge.queue.view().runs and time.monotonic() < deadline:
            if run := forge.queue.start_next():
                started.append(run)

    threads = [threading.Thread(target=work, args=(forge,)) for forge in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(started) == sorted(runs)
    ended(servers[0], started[-1])


def test_two_hundred_clicks_with_one_request_id_make_one_run(server, question):
    servers = [server() for _ in range(4)]
    gate = threading.Barrier(200)
    ids: list[str] = []
    wrong: list[ForgeError] = []

    def click(number: int) -> None:
        forge = servers[number % 4]
        add = forge.queue.add if number % 2 else forge.runs.start
        gate.wait()
        try:
            ids.append(add(question, request_id="click"))
        except ForgeError as error:
            wrong.append(error)

    threads = [threading.Thread(target=click, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(ids) == 200
    assert len(set(ids)) == 1
    assert [view.id for view in servers[0].runs.views()] == ids[:1]


def test_a_run_that_stopped_waits_for_its_turn_to_go_on(forge, question):
    run = forge.runs.start(question)
    forge.runs.stop(run)
    ended(forge, run)
    other = forge.runs.start(question)
    forge.queue.add_resume(run)
    assert [one.resumes for one in forge.queue.view().runs] == [True]
    assert forge.queue.start_next() is None
    forge.runs.stop(other)
    until(lambda: forge.queue.start_next() == run, "it goes on")
    assert forge.runs.active() == run
    assert forge.queue.view().runs == []
    forge.runs.stop(run)
    ended(forge, run)
    forge.queue.add_resume(run)
    forge.queue.remove(run)
    assert forge.runs.view(run), "a run that has been at work is not deleted with its place"


def test_a_run_that_goes_on_cannot_be_queued_again(forge, question):
    run = forge.runs.start(question)
    with pytest.raises(NotFoundError, match="cannot be resumed"):
        forge.queue.add_resume(run)


def test_a_clock_that_jumps_starts_nothing_early(forge, question):
    wall, steady = [time.time()], [0.0]
    clock = Clock(lambda: wall[0], lambda: steady[0])
    queue = QueueService(
        forge.home,
        forge.runs._store,
        forge._supervisor,
        forge.runs._launcher,
        clock=clock,
    )
    run = queue.add(question, start_after="+2h")
    for moved in (5 * 3600, -10 * 3600, 5 * 3600):
        wall[0] += moved
        assert queue.start_next() is None
    wall[0] += 7201
    steady[0] += 7201
    assert queue.start_next() == run


def test_chat_of_another_server_is_named_and_waited_for(server, question, model):
    talking, other = server(), server()
    assert list(talking.chat.ask(str(model), HELLO))
    with pytest.raises(BusyError, match="Chat with tiny is using this computer") as refused:
        other.runs.start(question)
    assert refused.value.holder == "chat"
    with pytest.raises(BusyError, match="Chat with"):
        list(other.chat.ask(str(model), HELLO))
    waiting = other.queue.add(question)
    assert other.queue.start_next() is None
    assert "Chat with" in other.queue.view().why
    assert talking.queue.start_next() is None, "somebody has just been answered here"
    talking.close()
    assert other.queue.start_next() == waiting


def test_a_start_ends_the_chat_of_its_own_server(server, question, model):
    forge = server()
    assert list(forge.chat.ask(str(model), HELLO))
    assert json.loads(forge.home.lease.read_text())["kind"] == "chat"
    run = forge.runs.start(question)
    assert not forge.home.lease.exists()
    assert forge.runs.active() == run
    with pytest.raises(BusyError) as refused:
        list(forge.chat.ask(str(model), HELLO))
    assert refused.value.holder == run


def test_a_chat_that_begins_while_a_run_starts_does_not_load(server, question, model):
    forge = server()
    late = forge.chat.ask(str(model), HELLO)
    run = forge.runs.start(question)
    with pytest.raises(BusyError) as refused:
        list(late)
    assert refused.value.holder == run
    assert not forge.home.lease.exists()


def test_the_lease_of_a_chat_process_that_died_is_released(server, question, model):
    forge = server()
    assert list(forge.chat.ask(str(model), HELLO))
    forge.chat._client.close()
    forge.tend()
    assert not forge.home.lease.exists()


def test_a_folder_that_is_no_run_never_waits(forge, question):
    odd = forge.home.runs / "20200101-000000-0000"
    odd.mkdir(parents=True)
    write_json(odd / "notes.json", {})
    assert forge.queue.view().runs == []
    assert forge.queue.start_next() is None


def test_a_server_that_dies_while_it_adds_leaves_no_run_without_its_time(forge, question):
    def die(*_given, **_more):
        raise KeyboardInterrupt

    create = forge.runs._store.create
    forge.runs._store.create = lambda new_run, announce: create(
        new_run, lambda run: (announce(run), die())
    )
    with pytest.raises(KeyboardInterrupt):
        forge.queue.add(question, start_after="+2h")
    assert json.loads(forge.home.queue.read_text())["order"], "its place came first"
    assert forge.runs.views() == []
    assert forge.queue.view().runs == []


def test_a_damaged_record_is_held_and_the_queue_goes_on(forge, question):
    broken, sound = forge.queue.add(question), forge.queue.add(question)
    path = forge.runs.folder(broken).config
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"config": 5}))
    assert forge.queue.start_next() == sound
    assert "damaged" in forge.queue.view().runs[0].why_held


def test_a_queue_that_cannot_be_written_starts_its_run_once(forge, question, monkeypatch):
    run = forge.queue.add(question)
    other = forge.queue.add(question)

    def full(_path, _queue):
        raise RunError(Problem("queue.json", "There is no room.", "Free some."))

    monkeypatch.setattr("modelforge.services.queue.write_queue", full)
    with pytest.raises(RunError):
        forge.queue.start_next()
    assert forge.runs.active() == run
    monkeypatch.undo()
    assert forge.queue.start_next() is None
    assert [one.run for one in forge.queue.view().runs] == [other]


def test_a_hold_that_comes_while_a_run_is_checked_is_heard(forge, question, monkeypatch):
    run = forge.queue.add(question)
    check = forge.runs._launcher.check

    def slowly(*layers, **more):
        forge.queue.hold()
        return check(*layers, **more)

    monkeypatch.setattr(forge.runs._launcher, "check", slowly)
    assert forge.queue.start_next() is None
    assert forge.runs.state(run) is RunState.QUEUED
    assert forge.queue.view().code == "held"


def test_a_launch_makes_no_way_through_the_chat_of_another_server(server, question, model):
    talking, other = server(), server()
    assert list(talking.chat.ask(str(model), HELLO))
    with pytest.raises(BusyError, match="Chat with"):
        other.runs.start(question)
    assert talking.chat.in_use
    run = talking.runs.start(question)
    assert talking.chat.in_use == ""
    assert other.runs.active() == run
