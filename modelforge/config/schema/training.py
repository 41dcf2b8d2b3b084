"""The nested groups about training: trainer, evaluation, optimizer and schedule."""

from __future__ import annotations

from typing import Literal

from modelforge.config.schema.base import (
    ALL_CACHES,
    BOTH,
    MEMORY,
    SPEED,
    TRIAL_RUN,
    Group,
    Lines,
    SettingsGroup,
    setting,
)
from modelforge.config.schema.run_length import RunLength

# Most prompts that are answered over time, also of the user's own.
MAX_SAMPLES = 8

# Most rows of an evaluation report unless a request names another number.
EVALUATION_ROWS = 200


class Trainer(RunLength):
    """The trainer beyond the contract, and the settings of each strategy."""

    seed: int = setting(42, "Seed", Group.TRAINING, ge=0, le=2**32 - 1, irrelevant_for=ALL_CACHES)
    """The same seed, data and settings give the same run.

    Determines the split, the order of rows, the adapter's initial weights and dropout.
    """

    neftune_noise_alpha: float | None = setting(None, "NEFTune noise", Group.TRAINING, gt=0)
    """Noise on the embeddings during training, for instance 5; empty for none."""

    preference_beta: float = setting(
        0.1, "Beta", Group.PREFERENCES, gt=0, basic=True, irrelevant_for=TRIAL_RUN
    )
    """How closely the model stays to the reference model: higher is closer."""

    preference_loss: Literal[
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
    ] = setting("sigmoid", "Preference loss", Group.PREFERENCES, affects=BOTH)
    """How chosen and rejected completions are compared; sigmoid is DPO itself.

    kto trains on single completions marked good or bad, orpo needs no reference model; robust
    assumes that one pair in ten is swapped.
    """

    precompute_ref_log_probs: bool = setting(
        False, "Precompute reference", Group.PREFERENCES, affects=MEMORY
    )
    """Compute the reference log-probabilities once before training: faster epochs."""

    rlhf_algorithm: Literal["rloo", "grpo"] = setting("rloo", "Algorithm", Group.REWARDS)
    """The reinforcement learning algorithm.

    Both compare several completions of one prompt; rloo with the mean of the others, grpo with
    their mean and standard deviation.
    """

    reward: Literal["model", "exact-match", "regex", "length", "json"] = setting(
        "model", "Reward", Group.REWARDS, basic=True, affects=MEMORY
    )
    """What scores the completions: a reward model trained on the pairs first, or a rule.

    exact-match: equal to the chosen completion. regex: the pattern is found. length: near the
    target number of words. json: the completion is valid JSON.
    """

    reward_model: str | None = setting(
        None, "Reward model", Group.REWARDS, min_length=1, max_length=4096
    )
    """Your own reward model, a folder or a Hub id; empty trains one on the pairs first."""

    reward_pattern: str | None = setting(
        None, "Pattern", Group.REWARDS, min_length=1, max_length=1000
    )
    """For the reward regex: the pattern that a completion must contain."""

    reward_words: int = setting(20, "Target length", Group.REWARDS, ge=1, le=4096, unit="words")
    """For the reward length: the best number of words."""

    reward_learning_rate: float = setting(
        1e-4, "Reward learning rate", Group.REWARDS, gt=0, le=1, irrelevant_for=TRIAL_RUN
    )
    """Learning rate of the reward model."""

    reward_epochs: int = setting(1, "Reward epochs", Group.REWARDS, ge=1, irrelevant_for=MEMORY)
    """Number of passes of the reward model over the pairs."""

    kl_beta: float = setting(0.05, "KL coefficient", Group.REWARDS, ge=0, irrelevant_for=TRIAL_RUN)
    """Penalty for diverging from the reference model; 0 for none."""

    num_generations: int = setting(
        2, "Completions per prompt", Group.REWARDS, ge=2, le=64, unit="completions", basic=True
    )
    """Number of completions of one prompt that are compared."""

    max_completion_length: int = setting(
        256,
        "Max completion length",
        Group.REWARDS,
        ge=1,
        le=8192,
        unit="tokens",
        basic=True,
        affects=MEMORY,
    )
    """Longest generated completion in tokens."""

    generation_temperature: float = setting(1.0, "Temperature", Group.REWARDS, gt=0, le=2)
    """Sampling temperature of the generated completions."""

    save_steps: int | None = setting(None, "Save every", Group.SAVING, ge=-1, unit="steps")
    """Steps between checkpoints; empty saves at every evaluation, -1 at the end only.

    Training since the newest checkpoint is lost if the computer shuts down.
    """

    save_total_limit: int = setting(
        3, "Checkpoints kept", Group.SAVING, ge=1, unit="checkpoints", irrelevant_for=TRIAL_RUN
    )
    """Number of checkpoints on the disk; the newest and the best are always kept.

    With three there is another one to resume from if the newest is damaged.
    """

    torch_compile: bool = setting(False, "Compile the model", Group.TRAINING, affects=SPEED)
    """torch.compile: faster steps after about a minute of compilation at the start.

    Worth it in runs of many minutes. It needs triton with an NVIDIA GPU, and a C++ compiler on the
    CPU; without them it is left out.
    """


class Evaluation(SettingsGroup):
    """Evaluation during training, and what is measured beside the loss."""

    generated_rows: int = setting(
        50, "Scored rows", Group.EVALUATION, ge=0, le=2000, unit="rows", irrelevant_for=MEMORY
    )
    """Evaluation rows with generated and scored completions at the end; 0 for none.

    For ROUGE, exact match and F1, which need completions and not only a loss.
    """

    samples: int = setting(
        3, "Sample prompts", Group.EVALUATION, ge=0, le=MAX_SAMPLES, unit="prompts",
        irrelevant_for=MEMORY,
    )  # fmt: skip
    """Prompts answered before training, at each evaluation and at the end; 0 for none.

    They are evaluation rows, and one general prompt, unless you give your own prompts.
    """

    sample_prompts: Lines = setting(
        "", "Your sample prompts", Group.EVALUATION, max_length=20_000, multiline=True,
        irrelevant_for=MEMORY,
    )  # fmt: skip
    """Your own sample prompts, one per line, at most 8; empty uses evaluation rows."""

    sample_tokens: int = setting(
        64, "Longest sample", Group.EVALUATION, ge=1, le=1024, unit="tokens", irrelevant_for=MEMORY
    )
    """Longest answer to a sample prompt; all prompts are answered in one batch."""

    sample_every: int = setting(
        0, "Sample every", Group.EVALUATION, ge=0, unit="steps", irrelevant_for=MEMORY
    )
    """Steps between the answers to the sample prompts; 0 answers them at each evaluation."""

    eval_tokens: int | None = setting(
        None, "Tokens of an evaluation", Group.EVALUATION, ge=1, le=2**40, unit="tokens",
        irrelevant_for=MEMORY,
    )  # fmt: skip
    """Most tokens of text that an evaluation of a model trained from nothing reads.

    Empty is 15 % of the tokens that are trained between two evaluations, or 131,072 if that is
    more. They are spread over the evaluation text.
    """

    core_bundle: str | None = setting(
        None, "CORE folder", Group.EVALUATION, min_length=1, max_length=4096, irrelevant_for=MEMORY
    )
    """Folder of the CORE tasks, to score a model that is trained from nothing; empty for none.

    CORE is the mean of 22 tasks without a chat format, each centred on guessing. Small models
    stay near 0: look at bits per byte and the samples first.
    """

    core_every: int = setting(
        -1, "CORE every", Group.EVALUATION, ge=-1, unit="steps", irrelevant_for=MEMORY
    )
    """Steps between scores on CORE, which is always scored at the end; -1 for the end only."""

    core_max_per_task: int = setting(
        500, "Rows per CORE task", Group.EVALUATION, ge=1, unit="rows", irrelevant_for=MEMORY
    )
    """Most rows of each CORE task that are scored; more rows narrow the interval."""

    row_losses: bool = setting(True, "Losses of rows", Group.EVALUATION, irrelevant_for=MEMORY)
    """Keep the loss of each training row, to find rows that are wrong or not learned.

    Read from the loss of each step, without a further forward pass. Not for a compiled model.
    """

    early_stopping: bool = setting(False, "Early stopping", Group.EVALUATION, irrelevant_for=MEMORY)
    """End the run when evaluations no longer improve; the best checkpoint is kept."""

    early_stopping_patience: int = setting(
        3, "Patience", Group.EVALUATION, ge=1, le=1000, unit="evaluations", irrelevant_for=MEMORY
    )
    """Evaluations in a row without improvement before early stopping."""

    early_stopping_threshold: float = setting(
        0.0, "Minimum improvement", Group.EVALUATION, ge=0, irrelevant_for=MEMORY
    )
    """Smallest decrease of the evaluation loss that counts as an improvement."""

    report: bool = setting(
        False, "Evaluate at the end", Group.EVALUATION, irrelevant_for=ALL_CACHES
    )
    """Compare the trained model with its base model when the run has finished.

    The report says whether it is better, whether a prompt does as well, and what was forgotten.
    """

    loss_guard: bool = setting(False, "Loss guard", Group.EVALUATION, irrelevant_for=MEMORY)
    """Halve the learning rate for 50 steps when the loss or the gradients spike.

    A spike is a loss three standard deviations above the last hundred, or gradients of ten times
    their usual norm. The third and later reductions are permanent; there are at most five.
    """

    phase_monitor: bool = setting(True, "Loss phases", Group.EVALUATION, irrelevant_for=MEMORY)
    """Report when the loss converges, plateaus, spikes or rises."""

    keep_best: bool = setting(True, "Keep the best", Group.SAVING)
    """Keep the checkpoint with the best evaluation loss instead of the last one."""


def own_prompts(evaluation: Evaluation) -> list[str]:
    """Return the user's own sample prompts, without empty lines."""
    lines = (line.strip() for line in evaluation.sample_prompts.splitlines())
    return [line for line in lines if line]
