"""Which way of training a config comes to on a model: the trainer that does the work."""

from __future__ import annotations

from typing import Literal

from modelforge.config.schema.config import TrainingConfig

Kind = Literal["decoder", "encoder-decoder", "encoder", "unknown"]
Method = Literal["sft", "seq2seq", "span", "dpo", "kto", "orpo", "rlhf"]
# What is put on the body of the model: words that follow, words of another text, two places.
Head = Literal["causal", "seq2seq", "span", "reward"]


def method_of(config: TrainingConfig, kind: str) -> Method:
    """Return how `config` is trained on a model of this kind."""
    if config.strategy == "rlhf":
        return "rlhf"
    if config.strategy == "dpo":
        loss = config.trainer.preference_loss
        return loss if loss in ("kto", "orpo") else "dpo"
    if config.task == "summarization" and kind == "encoder-decoder":
        return "seq2seq"
    if config.task == "extractive-question-answering" and kind == "encoder":
        return "span"
    return "sft"
