"""The nested groups about training: trainer, evaluation and memory."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelforge.config.schema.base import (
    ALL_CACHES,
    BOTH,
    MEMORY,
    SPEED,
    GroupName,
    SettingInfo,
    SettingsGroup,
)


class Trainer(SettingsGroup):
    """The trainer beyond the contract, and the settings of each strategy."""

    seed: Annotated[
        int,
        Field(ge=0, le=2**32 - 1),
        SettingInfo(
            "Seed",
            "The same seed, data and settings give the same run.",
            "Determines the split, the order of rows, the adapter's initial weights and dropout.",
            group=GroupName.TRAINING,
            irrelevant_for=ALL_CACHES,
        ),
    ] = 42
    neftune_noise_alpha: Annotated[
        float | None,
        Field(gt=0),
        SettingInfo(
            "NEFTune noise",
            "Noise on the embeddings during training, for instance 5; empty for none.",
            group=GroupName.TRAINING,
        ),
    ] = None
    preference_beta: Annotated[
        float,
        Field(gt=0),
        SettingInfo(
            "Beta",
            "How closely the model stays to the reference model: higher is closer.",
            group=GroupName.PREFERENCES,
            basic=True,
            irrelevant_for=("trial_run",),
        ),
    ] = 0.1
    preference_loss: Annotated[
        Literal[
            "sigmoid",
            "hinge",
            "ipo",
            "exo_pair",
            "nca_pair",
            "robust",
            "bco_pair",
            "sppo_hard",
            "aot",
            "aot_unpaired",
            "apo_zero",
            "apo_down",
            "discopop",
            "sigmoid_norm",
            "kto",
            "orpo",
        ],
        SettingInfo(
            "Preference loss",
            "How chosen and rejected completions are compared; sigmoid is DPO itself.",
            "kto trains on single completions marked good or bad, orpo needs no reference model; "
            "robust assumes that one pair in ten is swapped.",
            group=GroupName.PREFERENCES,
            affects=BOTH,
        ),
    ] = "sigmoid"
    precompute_ref_log_probs: Annotated[
        bool,
        SettingInfo(
            "Precompute reference",
            "Compute the reference log-probabilities once before training: faster epochs.",
            group=GroupName.PREFERENCES,
            affects=MEMORY,
        ),
    ] = False
    rlhf_algorithm: Annotated[
        Literal["rloo", "grpo"],
        SettingInfo(
            "Algorithm",
            "The reinforcement learning algorithm.",
            "Both compare several completions of one prompt; rloo with the mean of the others, "
            "grpo with their mean and standard deviation.",
            group=GroupName.REWARDS,
        ),
    ] = "rloo"
    reward: Annotated[
        Literal["model", "exact-match", "regex", "length", "json"],
        SettingInfo(
            "Reward",
            "What scores the completions: a reward model trained on the pairs first, or a rule.",
            "exact-match: equal to the chosen completion. regex: the pattern is found. length: "
            "near the target number of words. json: the completion is valid JSON.",
            group=GroupName.REWARDS,
            basic=True,
            affects=MEMORY,
        ),
    ] = "model"
    reward_model: Annotated[
        str | None,
        Field(min_length=1, max_length=4096),
        SettingInfo(
            "Reward model",
            "Your own reward model, a folder or a Hub id; empty trains one on the pairs first.",
            group=GroupName.REWARDS,
        ),
    ] = None
    reward_pattern: Annotated[
        str | None,
        Field(min_length=1, max_length=1000),
        SettingInfo(
            "Pattern",
            "For the reward regex: the pattern that a completion must contain.",
            group=GroupName.REWARDS,
        ),
    ] = None
    reward_words: Annotated[
        int,
        Field(ge=1, le=4096),
        SettingInfo(
            "Target length",
            "For the reward length: the best number of words.",
            unit="words",
            group=GroupName.REWARDS,
        ),
    ] = 20
    reward_learning_rate: Annotated[
        float,
        Field(gt=0, le=1),
        SettingInfo(
            "Reward learning rate",
            "Learning rate of the reward model.",
            group=GroupName.REWARDS,
            irrelevant_for=("trial_run",),
        ),
    ] = 1e-4
    reward_epochs: Annotated[
        int,
        Field(ge=1),
        SettingInfo(
            "Reward epochs",
            "Number of passes of the reward model over the pairs.",
            group=GroupName.REWARDS,
            irrelevant_for=("trial_run",),
        ),
    ] = 1
    kl_beta: Annotated[
        float,
        Field(ge=0),
        SettingInfo(
            "KL coefficient",
            "Penalty for diverging from the reference model; 0 for none.",
            group=GroupName.REWARDS,
            irrelevant_for=("trial_run",),
        ),
    ] = 0.05
    num_generations: Annotated[
        int,
        Field(ge=2, le=64),
        SettingInfo(
            "Completions per prompt",
            "Number of completions of one prompt that are compared.",
            unit="completions",
            group=GroupName.REWARDS,
            basic=True,
        ),
    ] = 2
    max_completion_length: Annotated[
        int,
        Field(ge=1, le=8192),
        SettingInfo(
            "Max completion length",
            "Longest generated completion in tokens.",
            unit="tokens",
            group=GroupName.REWARDS,
            basic=True,
            affects=MEMORY,
        ),
    ] = 256
    generation_temperature: Annotated[
        float,
        Field(gt=0, le=2),
        SettingInfo(
            "Temperature",
            "Sampling temperature of the generated completions.",
            group=GroupName.REWARDS,
            irrelevant_for=("trial_run",),
        ),
    ] = 1.0
    save_steps: Annotated[
        int | None,
        Field(ge=-1),
        SettingInfo(
            "Save every",
            "Steps between checkpoints; empty saves at every evaluation, -1 at the end only.",
            "Training since the newest checkpoint is lost if the computer shuts down.",
            unit="steps",
            group=GroupName.SAVING,
            irrelevant_for=ALL_CACHES,
        ),
    ] = None
    save_total_limit: Annotated[
        int,
        Field(ge=1),
        SettingInfo(
            "Checkpoints kept",
            "Number of checkpoints on the disk; the newest and the best are always kept.",
            "With three there is another one to resume from if the newest is damaged.",
            unit="checkpoints",
            group=GroupName.SAVING,
            irrelevant_for=("trial_run",),
        ),
    ] = 3
    torch_compile: Annotated[
        bool,
        SettingInfo(
            "Compile the model",
            "torch.compile: faster steps after about a minute of compilation at the start.",
            "Worth it in runs of many minutes. It needs triton with an NVIDIA GPU, and a C++ "
            "compiler on the CPU; without them it is left out.",
            group=GroupName.TRAINING,
            affects=SPEED,
        ),
    ] = False


class Evaluation(SettingsGroup):
    """Evaluation during training, and what is measured beside the loss."""

    generated_rows: Annotated[
        int,
        Field(ge=0, le=2000),
        SettingInfo(
            "Scored rows",
            "Evaluation rows with generated and scored completions at the end; 0 for none.",
            "For ROUGE, exact match and F1, which need completions and not only a loss.",
            unit="rows",
            group=GroupName.EVALUATION,
            irrelevant_for=("memory",),
        ),
    ] = 50
    early_stopping: Annotated[
        bool,
        SettingInfo(
            "Early stopping",
            "End the run when evaluations no longer improve; the best checkpoint is kept.",
            group=GroupName.EVALUATION,
            irrelevant_for=("memory",),
        ),
    ] = False
    early_stopping_patience: Annotated[
        int,
        Field(ge=1, le=1000),
        SettingInfo(
            "Patience",
            "Evaluations in a row without improvement before early stopping.",
            unit="evaluations",
            group=GroupName.EVALUATION,
            irrelevant_for=("memory",),
        ),
    ] = 3
    early_stopping_threshold: Annotated[
        float,
        Field(ge=0),
        SettingInfo(
            "Minimum improvement",
            "Smallest decrease of the evaluation loss that counts as an improvement.",
            group=GroupName.EVALUATION,
            irrelevant_for=("memory",),
        ),
    ] = 0.0
    loss_guard: Annotated[
        bool,
        SettingInfo(
            "Loss guard",
            "Halve the learning rate for 50 steps when the loss or the gradients spike.",
            "A spike is a loss three standard deviations above the last hundred, or gradients of "
            "ten times their usual norm. The third and later reductions are permanent; there are "
            "at most five.",
            group=GroupName.EVALUATION,
            irrelevant_for=("memory",),
        ),
    ] = False
    phase_monitor: Annotated[
        bool,
        SettingInfo(
            "Loss phases",
            "Report when the loss converges, plateaus, spikes or rises.",
            group=GroupName.EVALUATION,
            irrelevant_for=("memory",),
        ),
    ] = True
    keep_best: Annotated[
        bool,
        SettingInfo(
            "Keep the best",
            "Keep the checkpoint with the best evaluation loss instead of the last one.",
            group=GroupName.SAVING,
            irrelevant_for=ALL_CACHES,
        ),
    ] = True


class Memory(SettingsGroup):
    """Adjustment of a run to the available memory."""

    autopilot: Annotated[
        bool,
        SettingInfo(
            "Recover from out of memory",
            "Split a batch that does not fit and accumulate its parts; the result is the same.",
            "The rows of a step, their order and their weight stay the same. With one row left, "
            "gradient checkpointing is switched on; only then does the run fail.",
            group=GroupName.MEMORY,
            irrelevant_for=("memory",),
        ),
    ] = True
    auto_batch_size: Annotated[
        bool,
        SettingInfo(
            "Find the batch size",
            "Find the fastest batch size that fits at the start; rows per step stay the same.",
            "Batch size times gradient accumulation stays the same. A larger batch is used only "
            "while it is at least 5 % faster.",
            group=GroupName.MEMORY,
            irrelevant_for=("memory",),
        ),
    ] = False
