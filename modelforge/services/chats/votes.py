"""Blind comparison: shuffled answers of two models, votes, and the share of votes that one wins."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from modelforge.config.schema.base import about
from modelforge.diagnosis.intervals import Interval, score_interval, share_interval
from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.runs.feedback.votes import Vote, VotedSide, add_vote, read_votes
from modelforge.runs.store import Store
from modelforge.services.chat import ChatService
from modelforge.services.chats.requests import ChatAsk
from modelforge.services.chats.sides import Parts

# Questions that were answered and not voted on yet.
MAX_OPEN = 200
MAX_VOTES = 10_000
PROMPT_CHARACTERS, ANSWER_CHARACTERS = 2000, 4000

Choice = Literal["left", "right", "tie"]
Key = tuple[str, bool]


@dataclass(frozen=True)
class VoteRequest:
    """A vote on the answers to a blind question."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    question: Annotated[str, Field(max_length=40, description="Id of the question.")]
    choice: Annotated[Choice, about("The better answer.")]


@dataclass(frozen=True)
class WinRate:
    """How often a model wins against another one. A tie counts as half a win."""

    sides: Annotated[
        tuple[VotedSide, VotedSide], about("What it is compared with, and the model itself.")
    ]
    votes: int
    wins: int
    losses: int
    ties: int
    share: Annotated[float, about("Of the wins, from 0 to 1.")]
    interval: Annotated[
        tuple[float, float] | None, about("The 95 % interval of the share; null of few votes.")
    ]
    settled: Annotated[bool, about("Whether the interval leaves out one half, a coin toss.")]
    sentence: str


@dataclass(frozen=True)
class Reveal:
    """Which model has given which answer, after the vote."""

    question: str
    choice: Choice
    left: Annotated[int, about("The index of the side that was shown on the left.")]
    winner: Annotated[int | None, about("The index of the better side; null for a tie.")]
    names: tuple[str, str]
    rate: WinRate


@dataclass
class _Open:
    """A question that was asked; it can be voted on as soon as it has both answers."""

    ask: ChatAsk
    names: tuple[str, str]
    left: int
    answers: list[str] = field(default_factory=lambda: ["", ""])
    complete: bool = False


class VoteService:
    """Asks two models without showing which is which, and keeps the votes. Thread-safe."""

    def __init__(self, chat: ChatService, store: Store) -> None:
        self._chat = chat
        self._store = store
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._lock = threading.Lock()

    def ask(self, ask: ChatAsk) -> Parts:
        """Yield the id of the question, and the answers when both are there, in a secret order.

        Side 0 is shown on the left, side 1 on the right. Times and the lengths of prompts are left
        out, because they would show the model. Raises as `ChatService.ask_sides`, and ConfigError
        without a run.
        """
        ask = replace(ask, blind=True).checked()
        if not self._runs(ask):
            what = "Neither model is a run, with which votes are kept."
            raise ConfigError(Problem("blind", what, "Choose a tuned run for one side."))
        parts = self._chat.ask_sides(ask)
        names = [self._chat.side_name(side.model, tuned=side.tuned) for side in ask.sides]
        question = secrets.token_hex(8)
        opened = _Open(ask, (names[0], names[1]), secrets.randbelow(2))
        return self._answer(question, opened, parts)

    def vote(self, question: str, choice: Choice) -> Reveal:
        """Keep a vote, and return which model was which. Each question takes one vote.

        Raises NotFoundError for a question that is unknown, not answered or voted on already.
        """
        with self._lock:
            opened = self._open.get(question)
            if opened is None or not opened.complete:
                what = "This question is not open for a vote any more."
                raise NotFoundError(Problem("question", what, "Ask it again."))
            vote = _vote_on(question, opened, choice)
            for run in self._runs(opened.ask):
                path = self._store.get(run).votes
                if len(read_votes(path)) >= MAX_VOTES:
                    what = f"The run has {MAX_VOTES:,} votes, as many as are kept."
                    raise ConfigError(Problem("votes", what, "Compare another run."))
                add_vote(path, vote)
            del self._open[question]
        run = self._runs(opened.ask)[-1]
        mine, other = _ordered(opened.ask, run)
        rate = next(each for each in self.rates(run) if _keys(each.sides) == (other, mine))
        return Reveal(question, choice, opened.left, vote.winner, opened.names, rate)

    def rates(self, run: str) -> list[WinRate]:
        """Return how a run has done against each model; raises NotFoundError."""
        pairs: dict[Key, list[Vote]] = {}
        for vote in read_votes(self._store.get(run).votes):
            keys = _keys(vote.sides)
            if (run, True) in keys:
                other = keys[0] if keys[1] == (run, True) else keys[1]
                pairs.setdefault(other, []).append(vote)
        return [win_rate(votes, (run, True)) for votes in pairs.values()]

    def _answer(self, question: str, opened: _Open, parts: Parts) -> Parts:
        with self._lock:
            self._open[question] = opened
            while len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        yield {"question": question}
        done: dict[int, dict[str, Any]] = {}
        asked: list[int] = []
        with closing(parts):
            for part in parts:
                side = part["side"]
                if side not in asked:
                    asked.append(side)
                    yield {"phase": "answering", "text": f"Answer {len(asked)} of 2"}
                if "error" in part:
                    yield {"error": part["error"]}
                    return
                if "done" in part:
                    done[side] = part["done"]
                elif "phase" not in part:
                    opened.answers[side] += part["text"]
        yield from _shuffled(opened, done)

    def _runs(self, ask: ChatAsk) -> list[str]:
        """Return the runs whose tuned model takes part."""
        return [side.model for side in ask.sides if side.tuned and self._store.exists(side.model)]


def win_rate(votes: Sequence[Vote], key: Key) -> WinRate:
    """Return how often the model with this key wins the votes, all against the same other one."""
    newest = votes[-1]
    own = _keys(newest.sides).index(key)
    mine, other = newest.sides[own], newest.sides[1 - own]
    scores = [_score(vote, key) for vote in votes]
    wins, ties = scores.count(1.0), scores.count(0.5)
    losses, count = len(votes) - wins - ties, len(votes)
    interval = score_interval(scores) if ties else share_interval(wins, count)
    settled = interval is not None and not interval.contains(0.5)
    share = sum(scores) / count
    return WinRate(
        sides=(other, mine),
        votes=count,
        wins=wins,
        losses=losses,
        ties=ties,
        share=share,
        interval=(interval.low, interval.high) if interval else None,
        settled=settled,
        sentence=_sentence(mine.name, wins, ties, count, interval, settled=settled),
    )


def _sentence(
    name: str, wins: int, ties: int, count: int, interval: Interval | None, *, settled: bool
) -> str:
    tied = f" with {ties} {'tie' if ties == 1 else 'ties'}" if ties else ""
    text = f"{name} wins {wins} of {count}{tied}"
    if interval is None:
        return f"{text}. These are too few votes to tell."
    text += f", 95 % interval {100 * interval.low:.0f} % to {100 * interval.high:.0f} %."
    return text if settled else f"{text} Not settled yet: the interval includes 50 %, a coin toss."


def _score(vote: Vote, key: Key) -> float:
    if vote.winner is None:
        return 0.5
    return 1.0 if vote.sides[vote.winner].key == key else 0.0


def _vote_on(question: str, opened: _Open, choice: Choice) -> Vote:
    places: dict[Choice, int | None] = {"left": opened.left, "right": 1 - opened.left, "tie": None}
    one, other = (
        VotedSide(side.model, side.tuned, name)
        for side, name in zip(opened.ask.sides, opened.names, strict=True)
    )
    answers = [text[:ANSWER_CHARACTERS] for text in opened.answers]
    return Vote(
        question=question,
        voted=time.time(),
        sides=(one, other),
        winner=places[choice],
        left=opened.left,
        prompt=str(opened.ask.sides[0].messages[-1]["content"])[:PROMPT_CHARACTERS],
        answers=(answers[0], answers[1]),
        sampling=opened.ask.sampling.as_dict(),
    )


def _shuffled(opened: _Open, done: dict[int, dict[str, Any]]) -> Parts:
    """Yield the answers as the left and the right one, without what would show the model."""
    if len(done) < 2:
        return
    prompt = max(each.get("prompt_tokens") or 0 for each in done.values())
    opened.complete = True
    for place, side in enumerate((opened.left, 1 - opened.left)):
        yield {"side": place, "text": opened.answers[side]}
        shown = {
            name: value
            for name, value in done[side].items()
            if name not in ("seconds", "device", "prompt_tokens")
        }
        yield {"side": place, "done": {**shown, "prompt_tokens": prompt}}


def _ordered(ask: ChatAsk, run: str) -> tuple[Key, Key]:
    """Return the key of the tuned model of a run, and that of the other side."""
    keys = [(side.model, side.tuned) for side in ask.sides]
    own = keys.index((run, True))
    return keys[own], keys[1 - own]


def _keys(sides: tuple[VotedSide, VotedSide]) -> tuple[Key, Key]:
    return sides[0].key, sides[1].key
