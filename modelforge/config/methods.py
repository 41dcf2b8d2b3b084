"""Training methods: which one a config selects, and the facts that depend on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.training import Trainer

ModelKind = Literal["decoder", "encoder-decoder", "encoder", "unknown"]
Method = Literal["sft", "seq2seq", "span", "dpo", "kto", "orpo", "rlhf", "pretraining", "growing"]
# The head on the body of the model: language model, sequence to sequence, answer span, reward.
Head = Literal["causal", "seq2seq", "span", "reward"]


@dataclass(frozen=True)
class MethodFacts:
    """What the rest of the code asks about a training method.

    Attributes:
        label: Name for people.
        head: Head of the trained model.
        sides: Sequences of one row that pass through the model together (2: chosen and rejected).
        min_rows: Fewest rows of a micro-batch; KTO compares its rows with each other.
        needs_preferences: Rows hold a chosen and a rejected completion.
        takes_labels: Rows may hold one completion marked good or bad instead.
        needs_reference: The loss compares with the model before training.
        compares: The loss compares completions: all logits are held, without adapter dropout.
        generates: Completions are generated and rewarded during training.
        chunks_loss: The loss is computed for `Plan.loss_piece` trained tokens at a time.
        joins_rows: Rows may be packed or laid end to end without padding.
        splits_batch: A batch may be split into smaller micro-batches with the same result.
        counts_tokens: The tokens of a step follow from the token counts of its rows.
        groups_by_length: Batches may hold rows of similar length.
        offloads_activations: TRL's trainer can keep all activations in the computer's memory.
        runs_on_unsloth: The provider Unsloth trains it.
    """

    label: str
    head: Head = "causal"
    sides: int = 1
    min_rows: int = 1
    needs_preferences: bool = False
    takes_labels: bool = False
    needs_reference: bool = False
    compares: bool = False
    generates: bool = False
    chunks_loss: bool = False
    joins_rows: bool = False
    splits_batch: bool = True
    counts_tokens: bool = True
    groups_by_length: bool = True
    offloads_activations: bool = False
    runs_on_unsloth: bool = False

    def sequences(self, rows: int) -> int:
        """Return how many sequences a micro-batch of `rows` sends through the model at once."""
        return max(self.min_rows, rows) * self.sides

    def keeps_reference(self, trainer: Trainer, trains: str) -> bool:
        """Return whether a second copy of the start model stays in memory.

        With an adapter the base model is the reference; precomputed log-probabilities need none.
        """
        precomputed = trainer.precompute_ref_log_probs and not self.generates
        return trains == "all" and self.needs_reference and not precomputed

    def keeps_reward_model(self, trainer: Trainer) -> bool:
        """Return whether a reward model stays in memory."""
        return self.generates and trainer.reward == "model"


METHOD_FACTS: dict[Method, MethodFacts] = {
    "sft": MethodFacts(
        "SFT", chunks_loss=True, joins_rows=True, offloads_activations=True, runs_on_unsloth=True
    ),
    "seq2seq": MethodFacts("Sequence to sequence", head="seq2seq", counts_tokens=False),
    "span": MethodFacts("Extractive QA", head="span"),
    "dpo": MethodFacts(
        "DPO",
        sides=2,
        needs_preferences=True,
        needs_reference=True,
        compares=True,
        offloads_activations=True,
        runs_on_unsloth=True,
    ),
    "kto": MethodFacts(
        "KTO",
        min_rows=2,
        needs_preferences=True,
        takes_labels=True,
        needs_reference=True,
        compares=True,
        splits_batch=False,
        counts_tokens=False,
        groups_by_length=False,
        offloads_activations=True,
    ),
    "orpo": MethodFacts("ORPO", sides=2, needs_preferences=True, compares=True),
    "rlhf": MethodFacts(
        "RLHF",
        needs_preferences=True,
        needs_reference=True,
        compares=True,
        generates=True,
        splits_batch=False,
        counts_tokens=False,
        groups_by_length=False,
    ),
    "pretraining": MethodFacts("Pretraining", groups_by_length=False),
    "growing": MethodFacts("Growing", chunks_loss=True, joins_rows=True),
}


def method_of(config: TrainingConfig, kind: str = "decoder") -> Method:
    """Return the method that trains `config` on a model of this kind."""
    if config.progressive.enabled:
        return "growing"
    if config.pretraining.enabled:
        return "pretraining"
    if config.strategy == "rlhf":
        return "rlhf"
    if config.strategy == "dpo":
        return preference_method(config.trainer.preference_loss)
    if config.task == "summarization" and kind == "encoder-decoder":
        return "seq2seq"
    if config.task == "extractive-question-answering" and kind == "encoder":
        return "span"
    return "sft"


def preference_method(loss: str) -> Method:
    """Return the method of a preference loss: its own where there is one, else dpo."""
    return loss if loss in METHOD_FACTS else "dpo"


def facts_of(config: TrainingConfig) -> MethodFacts:
    """Return the facts of the method for a decoder, from the settings alone."""
    return METHOD_FACTS[method_of(config)]


def needs_pairs(config: TrainingConfig) -> bool:
    """Return whether each row has to hold a chosen and a rejected completion.

    Where a rule or a named reward model gives the rewards, rlhf needs prompts and answers only.
    """
    is_rewarded = config.trainer.reward != "model" or config.trainer.reward_model is not None
    return facts_of(config).needs_preferences and not (config.strategy == "rlhf" and is_rewarded)
