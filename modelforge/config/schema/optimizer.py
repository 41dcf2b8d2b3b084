"""The nested groups about the optimizer and the learning rate schedule."""

from __future__ import annotations

from typing import Literal

from modelforge.config.schema.base import ALL_CACHES, Group, SettingsGroup, setting

# No rate of a group of weights is higher.
HIGHEST_RATE = 10.0


class Optimizer(SettingsGroup):
    """Hyperparameters of the optimizer, and learning rates of groups of weights."""

    beta1: float = setting(0.9, "Beta 1", Group.OPTIMIZER, ge=0, lt=1)
    """Decay rate of the mean of past gradients."""

    beta2: float = setting(0.999, "Beta 2", Group.OPTIMIZER, ge=0, lt=1)
    """Decay rate of the mean of past squared gradients."""

    epsilon: float = setting(1e-8, "Epsilon", Group.OPTIMIZER, gt=0)
    """Added to the denominator for numerical stability."""

    muon_momentum: float = setting(0.95, "Muon momentum", Group.OPTIMIZER, ge=0, lt=1)
    """Decay rate of the mean of past gradients of matrices."""

    muon_beta2: float = setting(0.95, "Muon beta 2", Group.OPTIMIZER, ge=0, lt=1)
    """Decay rate of the mean square of each row of past updates, by which normuon divides."""

    muon_scale: Literal["match_rms_adamw", "original"] = setting(
        "match_rms_adamw", "Muon update size", Group.OPTIMIZER
    )
    """The size of an update: as large as one of AdamW, or that of the first paper on Muon.

    match_rms_adamw: usual learning rates of AdamW apply. original: the update has the spectral
    norm 1, times the root of rows over columns for tall matrices; usual rates are about 0.02.
    """

    cautious_weight_decay: bool = setting(True, "Cautious weight decay", Group.OPTIMIZER)
    """Weight decay of Muon only where the update also makes the weight smaller."""

    matrix_lr: float | None = setting(
        None, "Rate of matrices", Group.OPTIMIZER, gt=0, le=HIGHEST_RATE
    )
    """Learning rate of matrices inside the layers; empty uses the learning rate.

    Only of fully trained matrices, not of a LoRA adapter.
    """

    embedding_lr: float | None = setting(
        None, "Rate of embeddings", Group.OPTIMIZER, gt=0, le=HIGHEST_RATE
    )
    """Learning rate of the embeddings where they are trained; empty uses the learning rate."""

    unembedding_lr: float | None = setting(
        None, "Rate of the head", Group.OPTIMIZER, gt=0, le=HIGHEST_RATE
    )
    """Learning rate of the output head where it is trained; empty uses the learning rate.

    Also of embeddings that are tied to the head.
    """

    scalar_lr: float | None = setting(
        None, "Rate of norms and biases", Group.OPTIMIZER, gt=0, le=HIGHEST_RATE
    )
    """Learning rate of norms and biases; empty uses the learning rate."""

    adapter_lr: float | None = setting(
        None, "Rate of the adapter", Group.OPTIMIZER, gt=0, le=HIGHEST_RATE
    )
    """Learning rate of the LoRA adapter; empty uses the learning rate.

    For another rate than that of fully trained modules beside it.
    """

    new_layer_lr: float | None = setting(
        None, "Rate of new layers", Group.OPTIMIZER, gt=0, le=HIGHEST_RATE
    )
    """Learning rate of the layers that a growing model gets; empty uses the learning rate.

    Weights of the trunk, embeddings and head have the learning rate, adapters their own.
    """

    loraplus_ratio: float | None = setting(None, "LoRA+ ratio", Group.OPTIMIZER, ge=1, le=1000)
    """LoRA+: how many times as high the rate of the adapter's second matrices (B) is.

    Empty trains both matrices at one rate; the paper uses 16 with a lower learning rate.
    """


class Schedule(SettingsGroup):
    """The learning rate schedule, beyond the contract."""

    auto_learning_rate: bool = setting(False, "Automatic learning rate", Group.TRAINING,
        irrelevant_for=ALL_CACHES)  # fmt: skip
    """Choose the learning rate by strategy and model, in place of the one that is set.

    With an adapter sft and qlora use 5e-4, and 1e-4 for Mistral models; other strategies, and
    training without an adapter, use their usual rate. The plan names the rate.
    """

    warmup_steps: int | None = setting(None, "Warm-up steps", Group.OPTIMIZER, ge=0, unit="steps")
    """Steps in which the learning rate rises from zero; empty uses the warm-up ratio."""

    decay_steps: int | None = setting(None, "Decay steps", Group.OPTIMIZER, ge=0, unit="steps")
    """For warmup_stable_decay, linear and cosine: steps in which the rate decays at the end.

    linear and cosine continue from the rate that they have reached.
    """

    decay_ratio: float | None = setting(None, "Decay ratio", Group.OPTIMIZER, ge=0, le=1)
    """For the same schedules: share of the run in which the rate decays at the end.

    Empty is 0.2 for warmup_stable_decay, and none for linear and cosine.
    """

    decay_shape: Literal["linear", "cosine", "1-sqrt"] = setting(
        "linear", "Decay shape", Group.OPTIMIZER
    )
    """For the same schedules: the curve of the decay at the end."""

    cycles: int | None = setting(None, "Cycles", Group.OPTIMIZER, ge=1, le=1000)
    """For cosine_with_restarts: how often the rate falls.

    Empty is once in each epoch, and at least twice.
    """

    power: float = setting(1.0, "Power", Group.OPTIMIZER, gt=0, le=100)
    """For polynomial: the power of the remaining share of the run; 1 is linear."""

    final_lr_fraction: float = setting(0.0, "Final rate fraction", Group.OPTIMIZER, ge=0, lt=1)
    """Share of the learning rate that remains at the end; 0.1 for the schedules with min_lr.

    reduce_lr_on_plateau and greedy do not go below it.
    """

    patience: int = setting(
        1, "Schedule patience", Group.OPTIMIZER, ge=0, le=1000, unit="evaluations"
    )
    """Evaluations in a row that do not change the rate of reduce_lr_on_plateau and greedy.

    After one more without improvement, the first divides the rate by ten and greedy lowers it by
    5 %; greedy raises it by 5 % after as many with improvement, to ten times at most.
    """
