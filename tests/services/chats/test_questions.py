"""Questions while a run trains: kept, answered when it is over, taken back, or asked on the CPU."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import pytest

from modelforge.errors import BusyError, ConfigError, NotFoundError
from modelforge.services.chats import questions as module
from modelforge.services.chats.cpu import fit_on_cpu
from modelforge.services.chats.requests import ChatAsk, Side
from tests.actors.talks import BASE, OTHER, SHOW, TUNED
from tests.services.chats.conftest import both, played, question, until
from tests.services.test_runs import asked


@pytest.fixture
def forge(server):
    forge = server(worker=played("obeys"))
    yield forge
    for view in forge.runs.views():
        forge.runs.stop(view.id, keep=False)
        until(lambda: forge.runs.state(view.id).is_over, "the run is over")  # noqa: B023


@pytest.fixture
def training(forge, model, data):
    """The id of a run that uses the computer."""
    run = forge.runs.start(asked(model, data), name="long run")
    until(lambda: forge.runs.events(run)[0], "it works")
    return run


def tended(forge, question_id, state):
    def holds():
        forge.tend()
        view = forge.questions.view(question_id)
        return view if view.state == state else None

    return until(holds, f"the question is {state}")


def end(forge, run):
    forge.runs.stop(run, keep=False)
    until(lambda: forge.runs.state(run).is_over, "the run is over")


def test_a_question_waits_for_the_run_and_is_answered_then(forge, first, second, training):
    with pytest.raises(BusyError):
        forge.chat.ask_sides(both(first, second))
    kept = forge.questions.keep(both(first, second))
    assert (kept.state, kept.holder) == ("waiting", training)
    assert "long run" in kept.reason
    forge.tend()
    assert forge.questions.view(kept.id).state == "waiting"
    end(forge, training)
    view = tended(forge, kept.id, "answered")
    assert [answer.text for answer in view.answers] == [TUNED, OTHER]
    assert view.answers[0].done["tokens"] > 0
    assert view.ended >= view.since
    assert (view.holder, view.expected) == ("", None)


def test_the_time_until_the_answer_is_that_of_the_run(forge, first, training, monkeypatch):
    monkeypatch.setattr(forge.questions, "_time_left", {training: 720.0}.get)
    kept = forge.questions.keep(both(first, first))
    assert kept.seconds_left == 720.0
    assert abs(kept.expected - time.time() - 720.0) < 5.0


def test_a_free_computer_answers_at_once(forge, first):
    kept = forge.questions.keep(both(first, first))
    view = tended(forge, kept.id, "answered")
    assert [answer.text for answer in view.answers] == [BASE, TUNED]


def test_a_question_goes_before_the_next_run_of_the_queue(forge, first, model, data, training):
    kept = forge.questions.keep(both(first, first))
    waiting = forge.queue.add(asked(model, data))
    forge.tend()
    end(forge, training)
    forge.tend()
    assert forge.questions.view(kept.id).state in ("answering", "answered")
    assert forge.runs.active() is None
    tended(forge, kept.id, "answered")
    assert forge.runs.state(waiting) == "queued"


def test_a_run_that_starts_meanwhile_makes_the_question_wait_again(forge, first, model, data):
    slow = both(first, first, "Echo: " + "word " * 200)
    kept = forge.questions.keep(slow)
    tended(forge, kept.id, "answering")
    until(lambda: forge.questions.view(kept.id).answers[0].text, "it is being answered")
    run = forge.runs.start(asked(model, data))
    view = until(
        lambda: [v for v in forge.questions.list() if v.state == "waiting"], "it waits again"
    )[0]
    assert [answer.text for answer in view.answers] == ["", ""]
    assert view.holder == run


def test_a_question_survives_a_restart(server, forge, first, training):
    kept = forge.questions.keep(both(first, first, "Still there?"))
    other = server(worker=played("obeys"))
    view = other.questions.view(kept.id)
    assert (view.state, view.since) == ("waiting", kept.since)
    assert view.ask == kept.ask
    end(forge, training)
    assert tended(other, kept.id, "answered").answers[1].text == TUNED


def test_a_question_is_taken_back(forge, first, training):
    kept = forge.questions.keep(both(first, first))
    forge.questions.take_back(kept.id)
    assert forge.questions.list() == []
    for act in (forge.questions.view, forge.questions.take_back, forge.questions.ask_on_cpu):
        with pytest.raises(NotFoundError):
            act(kept.id)
    end(forge, training)
    forge.tend()
    assert not forge.chat._client.alive


def test_an_answer_that_is_taken_back_ends(forge, first):
    kept = forge.questions.keep(both(first, first, "Echo: " + "word " * 200))
    tended(forge, kept.id, "answering")
    until(lambda: forge.questions.view(kept.id).answers[0].text, "it is being answered")
    forge.questions.take_back(kept.id)
    until(lambda: not forge.chat.reserved, "the next question can be asked")
    assert not list(forge.home.questions.glob("*.json"))


def test_the_time_left_is_that_of_a_run_alone(forge, first):
    assert forge._seconds_left("export") is None
    assert forge._seconds_left(first) is None


def test_a_question_is_answered_on_the_cpu_beside_the_run(forge, first, training):
    ask = ChatAsk((Side(first, True, question(SHOW)),))
    kept = forge.questions.keep(ask)
    assert kept.cpu.possible
    assert kept.cpu.seconds > 0
    forge.questions.ask_on_cpu(kept.id)
    view = tended(forge, kept.id, "answered")
    assert json.loads(view.answers[0].text)["device"] == "cpu"
    assert forge.runs.active() == training
    assert not forge.home.lease.exists()
    with pytest.raises(ConfigError, match="answered"):
        forge.questions.ask_on_cpu(kept.id)


def test_a_model_that_does_not_fit_is_not_asked_on_the_cpu(forge, first, training, monkeypatch):
    monkeypatch.setattr(forge.chat, "cpu_fit", lambda _ask: module.CpuFit(False, "Too large."))
    kept = forge.questions.keep(both(first, first))
    with pytest.raises(ConfigError, match="Too large"):
        forge.questions.ask_on_cpu(kept.id)
    assert forge.questions.view(kept.id).state == "waiting"


@pytest.mark.parametrize(
    ("parameters", "free_gib", "possible"),
    [
        (135e6, 4.0, True),
        (135e6, 1.0, False),
        (3e9, 16.0, False),
        (3e9, 32.0, True),
        (8e9, 500.0, False),
        (None, 500.0, False),
    ],
)
def test_the_cpu_is_for_models_that_fit_the_free_memory(parameters, free_gib, possible):
    facts = SimpleNamespace(name="m", parameters=parameters and int(parameters))
    fit = fit_on_cpu(facts, SimpleNamespace(ram_free_gib=free_gib))
    assert fit.possible is possible
    assert bool(fit.why) is not possible
    assert (fit.seconds is not None) is possible


def test_a_failed_answer_says_why(forge, first):
    kept = forge.questions.keep(ChatAsk((Side(first, True, question("Fail: broken.")),)))
    view = tended(forge, kept.id, "failed")
    assert view.answers[0].error["what"] == "broken."


def test_no_more_questions_wait_than_are_kept(forge, first, training, monkeypatch):
    monkeypatch.setattr(module, "MAX_KEPT", 2)
    kept = [forge.questions.keep(both(first, first)) for _ in range(2)]
    with pytest.raises(ConfigError, match="2 questions wait"):
        forge.questions.keep(both(first, first))
    end(forge, training)
    for each in kept:
        tended(forge, each.id, "answered")
    forge.questions.keep(both(first, first))
    assert kept[0].id not in [each.id for each in forge.questions.list()]


def test_a_blind_question_cannot_wait(forge, first):
    with pytest.raises(ConfigError, match="cannot wait"):
        forge.questions.keep(both(first, first, blind=True))


def test_a_damaged_file_is_left_out(server, forge, first, training):
    kept = forge.questions.keep(both(first, first))
    folder = forge.home.questions
    record = json.loads((folder / f"{kept.id}.json").read_text("utf-8"))
    for number, wrong in enumerate([{}, {**record, "ask": {}}, {**record, "since": "x"}]):
        (folder / f"{number:012}.json").write_text(json.dumps(wrong), "utf-8")
    assert [each.id for each in server().questions.list()] == [kept.id]
