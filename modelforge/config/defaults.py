"""Default settings of each strategy."""

from __future__ import annotations

from typing import Any

# Learning rates of the public contract, for full-size models on a GPU.
USUAL_RATE = {"sft": 2e-4, "qlora": 2e-4, "rlhf": 1.41e-5, "dpo": 5e-7}
# For small models with an adapter and few steps, as trained without a GPU.
PRACTICE_RATE = {"sft": 5e-4, "qlora": 5e-4, "rlhf": 5e-5, "dpo": 5e-5}
# Full fine-tuning needs about a tenth of the rate of an adapter (Schulman et al., "LoRA Without
# Regret", 2025). The contract's rates for dpo and rlhf are low enough for both.
FULL_FINE_TUNING_FACTOR = {"sft": 0.1}


def default_learning_rate(strategy: str, *, practice: bool = False, adapter: bool = True) -> float:
    """Return the default learning rate; unknown strategies use the SFT rate."""
    rates = PRACTICE_RATE if practice else USUAL_RATE
    rate = rates.get(strategy, rates["sft"])
    return rate if adapter else rate * FULL_FINE_TUNING_FACTOR.get(strategy, 1.0)


def strategy_defaults(
    strategy: str, *, practice: bool = False, adapter: bool = True
) -> dict[str, Any]:
    """Return the defaults of a strategy: its learning rate, and 4-bit weights for qlora."""
    rate = default_learning_rate(strategy, practice=practice, adapter=adapter)
    quantized = {"use_4bit": True} if strategy == "qlora" else {}
    return {"learning_rate": rate, **quantized}
