"""What a way of learning is best begun with: settings that follow the strategy until said."""

from __future__ import annotations

from typing import Any

# The contract's advice: rates for real models on a card.
USUAL_RATE = {"sft": 2e-4, "qlora": 2e-4, "rlhf": 1.41e-5, "dpo": 5e-7}
# Small models with an adapter and few updates, as a computer without a card trains them.
PRACTICE_RATE = {"sft": 5e-4, "qlora": 5e-4, "rlhf": 5e-5, "dpo": 5e-5}


def advised_rate(strategy: str, *, practice: bool = False) -> float:
    """Return the learning rate to begin with; a strategy nobody knows has that of sft."""
    rates = PRACTICE_RATE if practice else USUAL_RATE
    return rates.get(strategy, rates["sft"])


def advised(strategy: str, *, practice: bool = False) -> dict[str, Any]:
    """Return the answers that follow the strategy: its rate, and 4-bit weights for qlora."""
    rate = {"learning_rate": advised_rate(strategy, practice=practice)}
    return {**rate, "use_4bit": True} if strategy == "qlora" else rate
