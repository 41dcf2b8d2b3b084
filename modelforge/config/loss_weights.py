"""Weights of the loss by role, as the setting `data.role_weights` writes them."""

from __future__ import annotations

# `template` is what the chat template writes around the messages.
WEIGHTED_ROLES = ("system", "user", "assistant", "tool", "template")
HIGHEST_WEIGHT = 100.0


def parse_role_weights(text: str) -> dict[str, float]:
    """Return the weight of each role in a text such as `user=0.1, assistant=1`.

    Raises:
        ValueError: With a sentence about the first part that is none, and a remedy after a line
            break.
    """
    found: dict[str, float] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        role, _, value = (side.strip() for side in part.partition("="))
        if role not in WEIGHTED_ROLES:
            known = ", ".join(WEIGHTED_ROLES)
            raise ValueError(f"Unknown role {role[:40]!r}.\nChoose from {known}: user=0.1.")
        if role in found:
            raise ValueError(f"{role} is given twice.\nKeep one of them.")
        try:
            weight = float(value)
        except ValueError:
            weight = -1.0
        if not 0 <= weight <= HIGHEST_WEIGHT:
            what = f"{value[:40]!r} is not a weight from 0 to {HIGHEST_WEIGHT:g}."
            raise ValueError(f"{what}\nWrite a number, for instance {role}=0.1.")
        found[role] = weight
    return found
