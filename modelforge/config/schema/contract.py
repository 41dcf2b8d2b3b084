"""The 33 flat fields of the public contract.

Their names, types and defaults never change. Choices may be added, never removed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from modelforge.config.optimizers import LearningRateSchedule, Optim, full_schedule_name
from modelforge.config.providers import Provider
from modelforge.config.schema.base import (
    ALL_CACHES,
    BOTH,
    MEMORY,
    REQUIRED,
    SPEED,
    Group,
    SettingsGroup,
    setting,
)

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
# The name of a profile is that of its file.
PROFILE_NAME = r"[a-z0-9][a-z0-9_-]{0,39}"
ProfileName = Annotated[
    str,
    StringConstraints(pattern=f"^{PROFILE_NAME}$"),
    Field(examples=["low_end", "mid_range", "high_end"]),
]


class Contract(SettingsGroup):
    """The public settings, stable across releases."""

    task: Literal["text-generation", "summarization", "extractive-question-answering"] = setting(
        REQUIRED, "Task", Group.TASK, basic=True, affects=BOTH
    )
    """The task that the model is trained for."""

    model_name: Text = setting(REQUIRED, "Model", Group.MODEL, basic=True, irrelevant_for=MEMORY)
    """The base model: a Hub id, a folder, or starter.

    `starter` is SmolLM2-135M-Instruct, which needs neither network nor GPU.
    """

    provider: Provider = setting("huggingface", "Provider", Group.MODEL)
    """The library that loads and trains the model."""

    strategy: Literal["sft", "qlora", "rlhf", "dpo"] = setting(
        "sft", "Strategy", Group.TASK, basic=True, affects=BOTH
    )
    """Train on completions (sft, qlora), on preferences (dpo) or on rewards (rlhf).

    SFT shows the model the answers of your rows until it gives such answers itself: the usual
    choice. qlora is the same on 4-bit weights. dpo needs pairs of answers, and so does
    rlhf unless a rule gives the rewards.
    """

    dataset: Text = setting(REQUIRED, "Dataset", Group.DATA, basic=True, irrelevant_for=MEMORY)
    """The training file, or sample:NAME for a bundled dataset."""

    compute_specs: ProfileName = setting(
        REQUIRED, "Profile", Group.HARDWARE, irrelevant_for=ALL_CACHES
    )
    """The class of machine whose defaults fill the form.

    A profile of your own, a file in the folder `profiles` of the home, is chosen by its name.
    """

    lora_r: int = setting(16, "LoRA rank", Group.ADAPTER, ge=1, le=256, basic=True, affects=BOTH)
    """Size of the adapter: a higher rank learns more and needs more memory.

    8 to 16 is enough for a style or a persona; 64 for new formats and much data.
    """

    lora_alpha: int = setting(32, "LoRA alpha", Group.ADAPTER, ge=1, irrelevant_for=MEMORY)
    """Scale of the adapter's output; usually twice the rank."""

    lora_dropout: float = setting(0.1, "LoRA dropout", Group.ADAPTER, ge=0, le=1, affects=BOTH)
    """Share of adapter inputs dropped during training, against overfitting."""

    use_4bit: bool = setting(True, "4-bit weights", Group.QUANTIZATION, basic=True, affects=BOTH)
    """Store the frozen model in 4 bits: a quarter of the memory, slightly slower.

    On the CPU it works but is slow: without an NVIDIA GPU it is off unless it is set, in the form
    as in a recipe or request that leaves it out.
    """

    use_8bit: bool = setting(False, "8-bit weights", Group.QUANTIZATION, affects=BOTH)
    """Store the frozen model in 8 bits: half of the memory."""

    bnb_4bit_compute_dtype: Literal["float16", "bfloat16", "float32"] = setting(
        "float16", "4-bit compute dtype", Group.QUANTIZATION
    )
    """Number format of multiplications with 4-bit weights."""

    bnb_4bit_quant_type: Literal["nf4", "fp4"] = setting(
        "nf4", "4-bit data type", Group.QUANTIZATION
    )
    """nf4 suits model weights better than fp4."""

    use_nested_quant: bool = setting(
        False, "Nested quantization", Group.QUANTIZATION, affects=MEMORY
    )
    """Quantize the quantization constants too: saves about 0.4 bits per weight."""

    fp16: bool = setting(False, "fp16", Group.PRECISION, affects=BOTH)
    """Train in float16; for GPUs before the RTX 30 series."""

    bf16: bool = setting(False, "bf16", Group.PRECISION, affects=BOTH)
    """Train in bfloat16; for the RTX 30 series and newer."""

    num_train_epochs: int = setting(
        1, "Epochs", Group.TRAINING, ge=1, basic=True, irrelevant_for=ALL_CACHES
    )
    """Number of passes over the training rows.

    More passes learn the rows better and take longer; too many, and the model only recites them.
    """

    per_device_train_batch_size: int = setting(
        1, "Batch size", Group.TRAINING, ge=1, unit="rows", basic=True, affects=BOTH
    )
    """Rows per forward pass; more is faster and needs more memory.

    If a run does not fit, halve it and double the gradient accumulation: the result is the same.
    """

    per_device_eval_batch_size: int = setting(
        1, "Evaluation batch size", Group.EVALUATION, ge=1, unit="rows", affects=MEMORY
    )
    """Rows per forward pass during evaluation."""

    gradient_accumulation_steps: int = setting(
        4,
        "Gradient accumulation",
        Group.TRAINING,
        ge=1,
        unit="batches",
        basic=True,
        irrelevant_for=MEMORY,
    )
    """Batches that are averaged for one change of the model; costs time, not memory.

    More make fewer, steadier steps; fewer make more steps that depend on single rows. Rows per
    step = batch size × gradient accumulation.
    """

    gradient_checkpointing: bool = setting(
        True, "Gradient checkpointing", Group.MEMORY, affects=BOTH
    )
    """Recompute activations instead of storing them: much less memory, a third slower."""

    max_grad_norm: float = setting(0.3, "Gradient clipping", Group.OPTIMIZER, ge=0)
    """Largest gradient norm; 0 switches clipping off."""

    learning_rate: float = setting(
        2e-4, "Learning rate", Group.TRAINING, gt=0, le=1, basic=True, irrelevant_for=ALL_CACHES
    )
    """Size of each optimizer step: too high diverges, too low learns nothing.

    Usual: sft and qlora 2e-4, rlhf 1.41e-5, dpo 5e-6 to 5e-5; without an adapter sft 2e-5 and dpo
    5e-7.
    """

    weight_decay: float = setting(0.001, "Weight decay", Group.OPTIMIZER, ge=0)
    """Strength of the decay of trained weights towards zero."""

    optim: Optim = setting(
        "paged_adamw_32bit", "Optimizer", Group.OPTIMIZER, affects=BOTH, irrelevant_for=MEMORY
    )
    """The optimizer; the paged and 8-bit variants save GPU memory.

    Lion needs a third to a tenth of AdamW's learning rate.
    """

    lr_scheduler_type: Annotated[LearningRateSchedule, BeforeValidator(full_schedule_name)] = (
        setting("cosine", "Learning rate schedule", Group.OPTIMIZER)
    )
    """How the learning rate decays over the run.

    warmup_stable_decay, also called wsd, keeps the full rate until near the end;
    reduce_lr_on_plateau and greedy follow the evaluation loss.
    """

    max_steps: int = setting(
        -1, "Max steps", Group.TRAINING, ge=-1, unit="steps", irrelevant_for=ALL_CACHES
    )
    """End after this many optimizer steps; -1 for no limit."""

    warmup_ratio: float = setting(0.03, "Warm-up ratio", Group.OPTIMIZER, ge=0, le=1)
    """Share of the run in which the learning rate rises from zero."""

    group_by_length: bool = setting(True, "Group by length", Group.DATA, affects=SPEED)
    """Batch rows of similar length: less padding, faster."""

    packing: bool = setting(False, "Packing", Group.DATA, affects=BOTH)
    """Fill each sequence with several rows: faster on short rows."""

    max_seq_length: int | None = setting(
        None,
        "Max sequence length",
        Group.DATA,
        ge=-1,
        unit="tokens",
        basic=True,
        affects=BOTH,
        irrelevant_for=MEMORY,
    )
    """Longest row in tokens; empty uses the limit of model and profile."""

    eval_split: float = setting(
        0.2,
        "Evaluation split",
        Group.EVALUATION,
        ge=0,
        le=1,
        basic=True,
        affects=MEMORY,
        irrelevant_for=MEMORY,
    )
    """Share of the rows that are never trained, to measure what was learned; 0 for none.

    These evaluation rows show whether the model learned or only recites. More measure more
    reliably; fewer leave more rows to train on.
    """

    eval_steps: int = setting(
        100, "Evaluate every", Group.EVALUATION, ge=1, unit="steps", irrelevant_for=ALL_CACHES
    )
    """Steps between two evaluations; the best checkpoint is kept."""
