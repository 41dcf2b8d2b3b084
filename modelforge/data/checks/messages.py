"""Whether the turns of a conversation follow each other as a chat does."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

CALLS = "assistant+calls"


def check_role_order(turns: list[dict[str, Any]]) -> tuple[tuple[str, int], ...]:
    """Return the codes of what is odd about the order, each with the number of its turn."""
    return _order(
        tuple(CALLS if turn.get("tool_calls") else str(turn.get("role")) for turn in turns)
    )


@lru_cache(maxsize=4096)
def _order(roles: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    found: dict[str, int] = {}
    before = ""
    for number, role in enumerate(roles):
        code = _odd(before, role, roles[:number])
        if code:
            found.setdefault(code, number)
        if before == CALLS and role != "tool":
            found.setdefault("tool-without-result", number - 1)
        before = role
    if before == CALLS:
        found.setdefault("tool-without-result", len(roles) - 1)
    elif before in ("user", "system") and "assistant" in roles:
        found.setdefault("ends-without-answer", len(roles) - 1)
    return tuple(found.items())


def _odd(before: str, role: str, earlier: tuple[str, ...]) -> str:
    if role == "system":
        return "two-systems" if "system" in earlier else ("late-system" if earlier else "")
    if role in ("assistant", CALLS):
        if not any(each not in ("system", "assistant") for each in earlier):
            return "assistant-first"
        return "two-assistants" if before == role == "assistant" else ""
    if role == "user" and before == "user":
        return "two-users"
    if role == "tool" and before not in (CALLS, "tool"):
        return "result-without-call"
    return ""
