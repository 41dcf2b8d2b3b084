"""The answers of one or two models to a question, one after the other, from one chat process."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from modelforge.data.tool_calls import read_tool_calls
from modelforge.errors import BusyError, ForgeError
from modelforge.services.chat_client import Admit, ChatClient, ChatModelSpec, Message
from modelforge.services.chats.requests import ChatAsk

# {"side", "phase"}, {"side", "text"}, {"side", "done"} or {"side", "error"}.
Part = dict[str, Any]
Parts = Generator[Part, None, None]


@dataclass(frozen=True)
class PreparedSide:
    """A side whose model was found. `uses_adapter`: whether it answers with its adapter."""

    number: int
    name: str
    spec: ChatModelSpec
    uses_adapter: bool
    messages: tuple[Message, ...]


class SideAnswers:
    """Answers the sides of a question with a client, which has one base model loaded.

    Two adapters of the same base model are loaded together where they fit; otherwise one model is
    loaded after the other. The model that is loaded already answers first.
    """

    def __init__(self, client: ChatClient) -> None:
        self._client = client
        self._misfits: set[tuple[str | None, ...]] = set()

    def answer(self, sides: list[PreparedSide], ask: ChatAsk, admit: Admit) -> Parts:
        """Yield the parts of every side. An error of one of two sides is a part of it."""
        loaded = self._client.loaded
        order = sides
        if loaded is not None and not ask.blind:
            order = sorted(sides, key=lambda side: not loaded.serves(side.spec))
        for side in order:
            try:
                with closing(self._answer(side, sides, ask, admit)) as parts:
                    for part in parts:
                        yield {"side": side.number, **part}
            except ForgeError as error:
                if len(sides) == 1:
                    raise
                yield {"side": side.number, "error": error_of(error)}

    def _answer(
        self, side: PreparedSide, sides: list[PreparedSide], ask: ChatAsk, admit: Admit
    ) -> Parts:
        yield from self._load_both(side, sides, admit)
        parts = self._client.ask(
            side.spec,
            side.messages,
            ask.sampling,
            tuned=side.uses_adapter,
            tools=ask.tools,
            admit=admit,
        )
        text = ""
        with closing(parts):
            for part in parts:
                if "loaded" in part:
                    continue
                if "phase" not in part:
                    text += part.get("text", "")
                yield self._finished(part["done"], text, side, ask) if "done" in part else part

    def _load_both(
        self, side: PreparedSide, sides: list[PreparedSide], admit: Admit
    ) -> Iterator[Part]:
        """Load the adapters of both sides, if they are of the same base model and fit."""
        others = [other.spec for other in sides if side.spec.fits_beside(other.spec)]
        others = [other for other in others if other.adapter != side.spec.adapter]
        pair = (side.spec.adapter, *(other.adapter for other in others))
        if not others or pair in self._misfits:
            return
        joint = replace(side.spec, others=tuple(others))
        for part in self._client.load(joint, admit):
            if "loaded" not in part:
                yield part
        loaded = self._client.loaded
        if loaded is not None and not loaded.serves(joint):
            self._misfits |= {pair, pair[::-1]}

    def _finished(
        self, done: dict[str, Any], text: str, side: PreparedSide, ask: ChatAsk
    ) -> dict[str, Any]:
        calls = read_tool_calls(text) if ask.tools else []
        more: dict[str, Any] = {"tool_calls": calls} if calls else {}
        seed = ask.sampling.seed
        return {"done": {"context": None, **done, "seed": seed, "device": side.spec.device, **more}}


def error_of(error: ForgeError) -> dict[str, Any]:
    """Return an error as a part holds it, with what uses the computer."""
    holder = {"holder": error.holder} if isinstance(error, BusyError) else {}
    return {**error.problems[0].as_dict(), **holder}
