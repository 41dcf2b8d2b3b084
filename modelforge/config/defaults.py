"""What a way of learning is best begun with: settings that follow the strategy until said."""

from __future__ import annotations

from typing import Any

# The contract's advice: rates for real models on a card.
USUAL_RATE = {"sft": 2e-4, "qlora": 2e-4, "rlhf": 1.41e-5, "dpo": 5e-7}
# Small models with an adapter and few updates, as a computer without a card trains them.
PRACTICE_RATE = {"sft": 5e-4, "qlora": 5e-4, "rlhf": 5e-5, "dpo": 5e-5}
# All weights want about a tenth of the rate of an adapter (Schulman et al., "LoRA Without Regret",
# 2025). The contract's rates for dpo and rlhf are low enough for both.
WHOLE_SHARE = {"sft": 0.1}


def default_learning_rate(strategy: str, *, practice: bool = False, adapter: bool = True) -> float:
    """Return the learning rate to begin with; a strategy nobody knows has that of sft."""
    rates = PRACTICE_RATE if practice else USUAL_RATE
    rate = rates.get(strategy, rates["sft"])
    return rate if adapter else rate * WHOLE_SHARE.get(strategy, 1.0)


def strategy_defaults(
    strategy: str, *, practice: bool = False, adapter: bool = True
) -> dict[str, Any]:
    """Return the answers that follow the strategy: its rate, and 4-bit weights for qlora."""
    rate = {"learning_rate": default_learning_rate(strategy, practice=practice, adapter=adapter)}
    return {**rate, "use_4bit": True} if strategy == "qlora" else rate
