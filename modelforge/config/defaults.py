"""Default settings of each strategy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Usual learning rates with an adapter: of full-size models on a GPU, and of small models with few
# steps, as trained without a GPU. sft, qlora and rlhf: the public contract; dpo: examples of TRL.
USUAL_RATES = {
    "sft": (2e-4, 5e-4),
    "qlora": (2e-4, 5e-4),
    "rlhf": (1.41e-5, 5e-5),
    "dpo": (5e-6, 5e-5),
}
# Full fine-tuning needs about a tenth of the rate of an adapter (Schulman et al., "LoRA Without
# Regret", 2025): the contract's 5e-7 for dpo. Its rate for rlhf is low enough for both.
RATES_WITHOUT_ADAPTER = {"sft": (2e-5, 5e-5), "dpo": (5e-7, 5e-6)}


def usual_learning_rates(strategy: str, *, adapter: bool = True) -> tuple[float, float]:
    """Return the usual range of learning rates; unknown strategies use that of SFT."""
    with_adapter = USUAL_RATES.get(strategy, USUAL_RATES["sft"])
    return with_adapter if adapter else RATES_WITHOUT_ADAPTER.get(strategy, with_adapter)


def default_learning_rate(strategy: str, *, practice: bool = False, adapter: bool = True) -> float:
    """Return the lower end of the usual range, or the upper one for practice without a GPU."""
    return usual_learning_rates(strategy, adapter=adapter)[practice]


def strategy_defaults(
    strategy: str, *, practice: bool = False, adapter: bool = True
) -> dict[str, Any]:
    """Return the defaults of a strategy: its learning rate, and 4-bit weights for qlora."""
    rate = default_learning_rate(strategy, practice=practice, adapter=adapter)
    quantized = {"use_4bit": True} if strategy == "qlora" else {}
    return {"learning_rate": rate, **quantized}


def without_four_bits(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return recommended settings for a run without an NVIDIA GPU, where 4-bit weights are slow.

    qlora keeps them: it trains on quantized weights.
    """
    is_slow = settings.get("use_4bit") and settings.get("strategy") != "qlora"
    return {**settings, "use_4bit": False} if is_slow else dict(settings)
