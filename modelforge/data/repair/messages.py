"""Conversations put in order, turn by turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Turn = dict[str, Any]


def joined(turns: list[Turn]) -> list[Turn]:
    """Return the turns with neighbours of one speaker joined."""
    found: list[Turn] = []
    for turn in turns:
        last = found[-1] if found else None
        calls = turn.get("tool_calls") or (last and last.get("tool_calls"))
        if last and last["role"] == turn["role"] and turn["role"] != "tool" and not calls:
            found[-1] = {**last, "content": f"{last['content']}\n\n{turn['content']}".strip()}
        else:
            found.append(turn)
    return found


def system_first(turns: list[Turn]) -> list[Turn]:
    """Return the turns with all system messages as one at the start."""
    said = [turn["content"] for turn in turns if turn["role"] == "system"]
    rest = [turn for turn in turns if turn["role"] != "system"]
    text = "\n\n".join(each for each in said if each.strip())
    return joined([{"role": "system", "content": text}, *rest] if text else rest)


def user_first(turns: list[Turn]) -> list[Turn]:
    """Return the turns from the first of the user on, behind the system message."""
    lead = [turn for turn in turns[:1] if turn["role"] == "system"]
    first = next((at for at, turn in enumerate(turns) if turn["role"] == "user"), len(turns))
    return [*lead, *turns[first:]]


def answer_last(turns: list[Turn]) -> list[Turn]:
    """Return the turns up to the last answer."""
    ends = [at for at, turn in enumerate(turns) if turn["role"] == "assistant"]
    return turns[: ends[-1] + 1] if ends else turns


def spoken(turns: list[Turn]) -> list[Turn]:
    """Return the turns that say or call something."""
    return [turn for turn in turns if turn["content"].strip() or turn.get("tool_calls")]


ORDERERS: dict[str, Callable[[list[Turn]], list[Turn]]] = {
    "two-systems": system_first,
    "late-system": system_first,
    "assistant-first": user_first,
    "two-users": joined,
    "two-assistants": joined,
    "ends-without-answer": answer_last,
    "empty-turn": spoken,
}


def with_contents(turns: list[Any], key: str) -> list[Any]:
    """Return raw turns without those whose content is null, and with text parts alone."""
    found = []
    for turn in filter(_is_turn, turns):
        said = turn.get(key)
        if isinstance(said, list):
            texts = [part["text"] for part in said if isinstance(part, dict) and "text" in part]
            found.append({**turn, key: "\n".join(map(str, texts))})
        elif said is not None or turn.get("tool_calls"):
            found.append(turn)
    return found


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, dict)
