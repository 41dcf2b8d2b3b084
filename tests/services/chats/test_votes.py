"""Blind comparison: the order is secret until the vote, and votes stay with the run."""

from __future__ import annotations

import json

import pytest

from modelforge.config.sampling import Sampling
from modelforge.errors import ConfigError, NotFoundError
from modelforge.runs.feedback.votes import Vote, VotedSide, read_votes
from modelforge.services.chats import votes as module
from modelforge.services.chats.requests import ChatAsk, Side
from modelforge.services.chats.votes import win_rate
from tests.actors.talks import BASE, OTHER, TUNED
from tests.services.chats.conftest import both, question, texts


def asked(forge, ask):
    """Return the id of the question and the answers on the left and on the right."""
    parts = list(forge.votes.ask(ask))
    return parts[0]["question"], texts(parts), parts


def test_the_order_of_answers_changes_and_is_told_after_the_vote(forge, first, monkeypatch):
    for left, shown in ((0, [BASE, TUNED]), (1, [TUNED, BASE])):
        monkeypatch.setattr(module.secrets, "randbelow", lambda _count, left=left: left)
        ask = both(first, first, sampling=Sampling(seed=1))
        question_id, answers, _ = asked(forge, ask)
        assert answers == shown
        reveal = forge.votes.vote(question_id, "left")
        assert (reveal.left, reveal.winner) == (left, left)
        assert reveal.names == ("the base model of captain", "captain")
    (rate,) = forge.votes.rates(first)
    assert (rate.votes, rate.wins, rate.losses, rate.ties) == (2, 1, 1, 0)
    assert [side.name for side in rate.sides] == ["the base model of captain", "captain"]


def test_nothing_in_the_stream_tells_the_model(forge, first, second):
    _, _, parts = asked(forge, both(first, second))
    text = json.dumps(parts)
    for hint in ("captain", "rank 16", "seconds", "device", "Loading", first, second):
        assert hint not in text, hint
    (left, right) = [part["done"] for part in parts if "done" in part]
    assert left["prompt_tokens"] == right["prompt_tokens"]


def test_both_orders_come_up(forge, first):
    orders = {tuple(asked(forge, both(first, first))[1]) for _ in range(12)}
    assert orders == {(BASE, TUNED), (TUNED, BASE)}


def test_votes_are_kept_with_both_runs(server, forge, first, second):
    question_id, _, _ = asked(forge, both(first, second, "Which?"))
    forge.votes.vote(question_id, "tie")
    for run, other in ((first, "rank 16"), (second, "captain")):
        (vote,) = read_votes(forge.runs.folder(run).votes)
        assert (vote.prompt, set(vote.answers), vote.winner) == ("Which?", {TUNED, OTHER}, None)
        (rate,) = server().votes.rates(run)
        assert (rate.sides[0].name, rate.ties, rate.share) == (other, 1, 0.5)


def test_a_question_takes_one_vote(forge, first):
    question_id, _, _ = asked(forge, both(first, first))
    forge.votes.vote(question_id, "right")
    for unknown in (question_id, "none"):
        with pytest.raises(NotFoundError, match="not open"):
            forge.votes.vote(unknown, "left")


def test_without_both_answers_there_is_no_vote(forge, first):
    sides = (Side(first, False, question()), Side(first, True, question("Fail: broken.")))
    question_id, _, parts = asked(forge, ChatAsk(sides))
    assert parts[-1]["error"]["what"] == "broken."
    with pytest.raises(NotFoundError):
        forge.votes.vote(question_id, "left")
    stream = forge.votes.ask(both(first, first))
    half_asked = next(stream)["question"]
    stream.close()
    with pytest.raises(NotFoundError):
        forge.votes.vote(half_asked, "left")


def test_two_base_models_have_no_run_to_keep_votes_with(forge, first, model):
    sides = (Side(first, False, question()), Side(str(model), True, question()))
    with pytest.raises(ConfigError, match="Neither model is a run"):
        forge.votes.ask(ChatAsk(sides))


def test_more_votes_than_are_kept_are_refused(forge, first, monkeypatch):
    monkeypatch.setattr(module, "MAX_VOTES", 1)
    forge.votes.vote(asked(forge, both(first, first))[0], "left")
    with pytest.raises(ConfigError, match="1 votes"):
        forge.votes.vote(asked(forge, both(first, first))[0], "left")


ONE, TWO = VotedSide("a", False, "base"), VotedSide("a", True, "captain")


def counted(wins, losses, ties=0):
    winners = [1] * wins + [0] * losses + [None] * ties
    votes = [
        Vote(str(at), 0.0, (ONE, TWO), one, 0, "", ("", ""), {}) for at, one in enumerate(winners)
    ]
    return win_rate(votes, TWO.key)


def test_the_share_has_an_interval_and_a_sentence():
    rate = counted(14, 6)
    assert rate.share == 0.7
    low, high = rate.interval
    assert (round(low, 2), round(high, 2)) == (0.48, 0.86)
    assert not rate.settled
    assert rate.sentence == (
        "captain wins 14 of 20, 95 % interval 48 % to 86 %. "
        "Not settled yet: the interval includes 50 %, a coin toss."
    )
    sure = counted(18, 2)
    assert sure.settled
    assert sure.sentence == "captain wins 18 of 20, 95 % interval 72 % to 98 %."


def test_a_tie_counts_half():
    rate = counted(6, 2, 4)
    assert rate.share == pytest.approx(8 / 12)
    assert "6 of 12 with 4 ties" in rate.sentence
    low, high = rate.interval
    assert low < 8 / 12 < high
    assert counted(0, 0, 5).share == 0.5
    assert not counted(0, 0, 5).settled


def test_a_damaged_line_is_left_out(forge, first):
    forge.votes.vote(asked(forge, both(first, first))[0], "left")
    path = forge.runs.folder(first).votes
    good = path.read_text("utf-8")
    wrong = ["", "{", "[]", "null", '{"winner": 7}', good.strip().replace('"left"', '"right"')]
    path.write_text("\n".join([*wrong, good]), "utf-8")
    assert len(read_votes(path)) == 1
