"""Check of the order of roles in a conversation."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

CALLS = "assistant+calls"


def check_role_order(messages: list[dict[str, Any]]) -> tuple[tuple[str, int], ...]:
    """Return the codes of the findings, each with the index of the first message it is about."""
    roles = (
        CALLS if message.get("tool_calls") else str(message.get("role")) for message in messages
    )
    return _check_roles(tuple(roles))


@lru_cache(maxsize=4096)
def _check_roles(roles: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    findings: dict[str, int] = {}
    previous = ""
    for index, role in enumerate(roles):
        code = _check_role(previous, role, roles[:index])
        if code:
            findings.setdefault(code, index)
        if previous == CALLS and role != "tool":
            findings.setdefault("tool-call-without-result", index - 1)
        previous = role
    if previous == CALLS:
        findings.setdefault("tool-call-without-result", len(roles) - 1)
    elif previous in ("user", "system") and "assistant" in roles:
        findings.setdefault("ends-without-answer", len(roles) - 1)
    return tuple(findings.items())


def _check_role(previous: str, role: str, earlier: tuple[str, ...]) -> str:
    if role == "system" and earlier:
        return "several-system-messages" if "system" in earlier else "system-message-not-first"
    if role in ("assistant", CALLS):
        if all(other in ("system", "assistant") for other in earlier):
            return "assistant-message-first"
        return "consecutive-assistant-messages" if previous == role == "assistant" else ""
    if role == "user" and previous == "user":
        return "consecutive-user-messages"
    if role == "tool" and previous not in (CALLS, "tool"):
        return "tool-result-without-call"
    return ""
