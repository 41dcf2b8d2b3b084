"""The nested groups about learning: the optimizer, its schedule, and each strategy's own knobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelforge.config.schema.base import SettingInfo
from modelforge.config.schema.runtime import SettingsGroup


class Optimizer(SettingsGroup):
    """The numbers inside the optimizer."""

    beta1: Annotated[
        float,
        Field(ge=0, lt=1),
        SettingInfo(
            "Beta 1", "How long the direction of earlier updates is kept.", group="Optimizer"
        ),
    ] = 0.9
    beta2: Annotated[
        float,
        Field(ge=0, lt=1),
        SettingInfo("Beta 2", "How long the size of earlier updates is kept.", group="Optimizer"),
    ] = 0.999
    epsilon: Annotated[
        float,
        Field(gt=0),
        SettingInfo("Epsilon", "Keeps the division by small sizes steady.", group="Optimizer"),
    ] = 1e-8


class Schedule(SettingsGroup):
    """How the learning rate rises and falls, beyond the contract."""

    warmup_steps: Annotated[
        int | None,
        Field(ge=0),
        SettingInfo(
            "Warm-up updates",
            "Updates in which the rate rises from zero; empty takes the share above.",
            unit="updates",
            group="Optimizer",
        ),
    ] = None
    decay_steps: Annotated[
        int | None,
        Field(ge=0),
        SettingInfo(
            "Decay updates",
            "For warmup_stable_decay: updates in which the rate falls at the end.",
            unit="updates",
            group="Optimizer",
        ),
    ] = None
    decay_ratio: Annotated[
        float | None,
        Field(ge=0, le=1),
        SettingInfo(
            "Decay share",
            "For warmup_stable_decay: share of the run in which the rate falls; empty is 0.2.",
            group="Optimizer",
        ),
    ] = None
    decay_shape: Annotated[
        Literal["linear", "cosine", "1-sqrt"],
        SettingInfo(
            "Decay shape", "For warmup_stable_decay: how the rate falls.", group="Optimizer"
        ),
    ] = "linear"
    final_lr_fraction: Annotated[
        float,
        Field(ge=0, lt=1),
        SettingInfo(
            "Final rate",
            "Share of the learning rate that is left at the end.",
            group="Optimizer",
        ),
    ] = 0.0


class Trainer(SettingsGroup):
    """How training behaves beyond the contract, and what each strategy has of its own."""

    seed: Annotated[
        int,
        Field(ge=0, le=2**32 - 1),
        SettingInfo(
            "Seed",
            "The same seed, data and settings give the same run.",
            "Fixes the split, the order of the rows, the adapter's start and dropout.",
            group="Training",
        ),
    ] = 42
    neftune_noise_alpha: Annotated[
        float | None,
        Field(gt=0),
        SettingInfo(
            "NEFTune noise",
            "Noise on the embeddings while training; 5 often makes answers fuller. Empty is none.",
            group="Training",
        ),
    ] = None
    preference_beta: Annotated[
        float,
        Field(gt=0),
        SettingInfo(
            "Beta",
            "How closely the model stays to its start: higher is closer.",
            group="Preferences",
            basic=True,
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
            "How better and worse answers are compared; sigmoid is DPO itself.",
            "kto learns from single answers marked good or bad, orpo needs no reference model; "
            "robust takes one pair in ten to be the wrong way round.",
            group="Preferences",
        ),
    ] = "sigmoid"
    precompute_ref_log_probs: Annotated[
        bool,
        SettingInfo(
            "Reference beforehand",
            "Ask the reference model about every row once before training: faster epochs.",
            group="Preferences",
        ),
    ] = False
    rlhf_algorithm: Annotated[
        Literal["rloo", "grpo"],
        SettingInfo(
            "Algorithm",
            "How the model learns from rewards.",
            "Both compare several answers to one prompt; rloo against the others' mean, grpo "
            "against their mean and spread.",
            group="Rewards",
        ),
    ] = "rloo"
    reward: Annotated[
        Literal["model", "exact-match", "regex", "length", "json"],
        SettingInfo(
            "Reward",
            "Who judges the answers: a model trained on the pairs first, or a rule.",
            "exact-match: equal to the chosen answer. regex: the pattern is found. length: near "
            "the wanted number of words. json: the answer is valid JSON.",
            group="Rewards",
            basic=True,
        ),
    ] = "model"
    reward_model: Annotated[
        str | None,
        Field(min_length=1, max_length=4096),
        SettingInfo(
            "Reward model",
            "A reward model of yours, a folder or a Hub id; empty trains one on the pairs first.",
            group="Rewards",
        ),
    ] = None
    reward_pattern: Annotated[
        str | None,
        Field(min_length=1, max_length=1000),
        SettingInfo(
            "Pattern", "For the reward regex: what an answer must contain.", group="Rewards"
        ),
    ] = None
    reward_words: Annotated[
        int,
        Field(ge=1, le=4096),
        SettingInfo(
            "Wanted length",
            "For the reward length: the number of words that is best.",
            unit="words",
            group="Rewards",
        ),
    ] = 20
    reward_learning_rate: Annotated[
        float,
        Field(gt=0, le=1),
        SettingInfo(
            "Reward learning rate", "Size of each update of the reward model.", group="Rewards"
        ),
    ] = 1e-4
    reward_epochs: Annotated[
        int,
        Field(ge=1),
        SettingInfo(
            "Reward epochs", "How often the reward model sees every pair.", group="Rewards"
        ),
    ] = 1
    kl_beta: Annotated[
        float,
        Field(ge=0),
        SettingInfo(
            "KL weight",
            "What straying from the start model costs; 0 lets it stray.",
            group="Rewards",
        ),
    ] = 0.05
    num_generations: Annotated[
        int,
        Field(ge=2, le=64),
        SettingInfo(
            "Answers per prompt",
            "How many answers to one prompt are compared.",
            unit="answers",
            group="Rewards",
            basic=True,
        ),
    ] = 2
    max_completion_length: Annotated[
        int,
        Field(ge=1, le=8192),
        SettingInfo(
            "Longest answer",
            "Tokens after which an answer is ended while learning from rewards.",
            unit="tokens",
            group="Rewards",
            basic=True,
        ),
    ] = 256
    generation_temperature: Annotated[
        float,
        Field(gt=0, le=2),
        SettingInfo(
            "Temperature", "How varied the answers are that are compared.", group="Rewards"
        ),
    ] = 1.0
    save_steps: Annotated[
        int | None,
        Field(ge=-1),
        SettingInfo(
            "Save every",
            "Updates between states to go on from; empty saves at every check, -1 at the end only.",
            "What was learned since the newest one is lost if the machine goes off.",
            unit="updates",
            group="Saving",
        ),
    ] = None
    save_total_limit: Annotated[
        int,
        Field(ge=1),
        SettingInfo(
            "Checkpoints kept",
            "How many states to go on from stay on the disk; the newest and the best always do.",
            "With three there is one more to fall back to should the newest be damaged.",
            unit="checkpoints",
            group="Saving",
        ),
    ] = 3
    torch_compile: Annotated[
        bool,
        SettingInfo(
            "Compile the model",
            "torch.compile: updates get quicker after a wait of a minute or so at the start.",
            "It pays in runs of many minutes. It needs triton with an NVIDIA GPU, and a C++ "
            "compiler on the CPU; without them it is left out.",
            group="Training",
        ),
    ] = False


class Evaluation(SettingsGroup):
    """What is measured on the held-out rows beside the loss."""

    generated_rows: Annotated[
        int,
        Field(ge=0, le=2000),
        SettingInfo(
            "Answers scored",
            "Held-out rows that are answered and scored at the end; 0 for none.",
            "For ROUGE, exact match and F1, which need answers and not only a loss.",
            unit="rows",
            group="Evaluation",
        ),
    ] = 50
    early_stopping: Annotated[
        bool,
        SettingInfo(
            "Stop early",
            "End the run when checks on held-out rows bring nothing better; the best is kept.",
            group="Evaluation",
        ),
    ] = False
    early_stopping_patience: Annotated[
        int,
        Field(ge=1, le=1000),
        SettingInfo(
            "Patience",
            "Checks in a row without anything better after which a run stops early.",
            unit="checks",
            group="Evaluation",
        ),
    ] = 3
    early_stopping_threshold: Annotated[
        float,
        Field(ge=0),
        SettingInfo(
            "Least gain",
            "By how much a check must be better to count as better.",
            group="Evaluation",
        ),
    ] = 0.0
    loss_guard: Annotated[
        bool,
        SettingInfo(
            "Loss guard",
            "Halve the learning rate for 50 updates when the loss or the gradients leap.",
            "A leap is a loss three standard deviations above the last hundred, or gradients of "
            "ten times their usual size. The third halving and later ones stay; there are five "
            "at most.",
            group="Evaluation",
        ),
    ] = False
    phase_monitor: Annotated[
        bool,
        SettingInfo(
            "Tell phases",
            "Say in plain words when the loss converges, stays, jumps or rises.",
            group="Evaluation",
        ),
    ] = True
    keep_best: Annotated[
        bool,
        SettingInfo(
            "Keep the best",
            "What is kept is the state that did best on the held-out rows, not the last one.",
            group="Saving",
        ),
    ] = True


class Memory(SettingsGroup):
    """How a run lives with the memory there is."""

    autopilot: Annotated[
        bool,
        SettingInfo(
            "Go on when memory runs out",
            "A batch that does not fit is halved and taken in turns; what is learned is the same.",
            "The rows of an update, their order and their weight stay as they were. With one row "
            "left gradient checkpointing is switched on; only then does the run fail.",
            group="Memory",
        ),
    ] = True
    auto_batch_size: Annotated[
        bool,
        SettingInfo(
            "Find the batch size",
            "Try at the start which batch size is the fastest that fits; updates stay as large.",
            "Batch size times accumulation stays as it was said. A larger batch is taken only "
            "while it is at least 5 % faster.",
            group="Memory",
        ),
    ] = False
