"""The 33 flat fields of the public contract.

Their names, types and defaults never change. Choices may be added, never removed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from modelforge.config.optimizers import LearningRateSchedule, Optim, full_schedule_name
from modelforge.config.schema.base import (
    ALL_CACHES,
    BOTH,
    MEMORY,
    SPEED,
    GroupName,
    SettingInfo,
    SettingsGroup,
)

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Contract(SettingsGroup):
    """The public settings, stable across releases."""

    task: Annotated[
        Literal["text-generation", "summarization", "extractive-question-answering"],
        SettingInfo(
            "Task",
            "The task that the model is trained for.",
            group=GroupName.TASK,
            basic=True,
        ),
    ]
    model_name: Annotated[
        Text,
        SettingInfo(
            "Model",
            "The base model: a Hub id, a folder, or starter.",
            "`starter` is SmolLM2-135M-Instruct, which needs neither network nor GPU.",
            group=GroupName.MODEL,
            basic=True,
            irrelevant_for=("memory",),
        ),
    ]
    provider: Annotated[
        Literal["huggingface", "unsloth"],
        SettingInfo(
            "Provider", "The library that loads and trains the model.", group=GroupName.MODEL
        ),
    ] = "huggingface"
    strategy: Annotated[
        Literal["sft", "qlora", "rlhf", "dpo"],
        SettingInfo(
            "Strategy",
            "Train on completions (sft, qlora), on preferences (dpo) or on rewards (rlhf).",
            group=GroupName.TASK,
            basic=True,
            affects=BOTH,
        ),
    ] = "sft"
    dataset: Annotated[
        Text,
        SettingInfo(
            "Dataset",
            "The training file, or sample:NAME for a bundled dataset.",
            group=GroupName.DATA,
            basic=True,
            irrelevant_for=("memory",),
        ),
    ]
    compute_specs: Annotated[
        Literal["low_end", "mid_range", "high_end"],
        SettingInfo(
            "Profile",
            "The class of machine whose defaults fill the form.",
            group=GroupName.HARDWARE,
            irrelevant_for=ALL_CACHES,
        ),
    ]
    lora_r: Annotated[
        int,
        Field(ge=1, le=256),
        SettingInfo(
            "LoRA rank",
            "Size of the adapter: a higher rank learns more and needs more memory.",
            "8 to 16 is enough for a style or a persona; 64 for new formats and much data.",
            group=GroupName.ADAPTER,
            basic=True,
            affects=BOTH,
        ),
    ] = 16
    lora_alpha: Annotated[
        int,
        Field(ge=1),
        SettingInfo(
            "LoRA alpha",
            "Scale of the adapter's output; usually twice the rank.",
            group=GroupName.ADAPTER,
            irrelevant_for=("memory",),
        ),
    ] = 32
    lora_dropout: Annotated[
        float,
        Field(ge=0, le=1),
        SettingInfo(
            "LoRA dropout",
            "Share of adapter inputs dropped during training, against overfitting.",
            group=GroupName.ADAPTER,
            affects=BOTH,
        ),
    ] = 0.1
    use_4bit: Annotated[
        bool,
        SettingInfo(
            "4-bit weights",
            "Store the frozen model in 4 bits: a quarter of the memory, slightly slower.",
            "On the CPU it works but is slow; there it is off unless you switch it on.",
            group=GroupName.QUANTIZATION,
            basic=True,
            affects=BOTH,
        ),
    ] = True
    use_8bit: Annotated[
        bool,
        SettingInfo(
            "8-bit weights",
            "Store the frozen model in 8 bits: half of the memory.",
            group=GroupName.QUANTIZATION,
            affects=BOTH,
        ),
    ] = False
    bnb_4bit_compute_dtype: Annotated[
        Literal["float16", "bfloat16", "float32"],
        SettingInfo(
            "4-bit compute dtype",
            "Number format of multiplications with 4-bit weights.",
            group=GroupName.QUANTIZATION,
        ),
    ] = "float16"
    bnb_4bit_quant_type: Annotated[
        Literal["nf4", "fp4"],
        SettingInfo(
            "4-bit data type",
            "nf4 suits model weights better than fp4.",
            group=GroupName.QUANTIZATION,
        ),
    ] = "nf4"
    use_nested_quant: Annotated[
        bool,
        SettingInfo(
            "Nested quantization",
            "Quantize the quantization constants too: saves about 0.4 bits per weight.",
            group=GroupName.QUANTIZATION,
            affects=MEMORY,
        ),
    ] = False
    fp16: Annotated[
        bool,
        SettingInfo(
            "fp16",
            "Train in float16; for GPUs before the RTX 30 series.",
            group=GroupName.PRECISION,
            affects=BOTH,
        ),
    ] = False
    bf16: Annotated[
        bool,
        SettingInfo(
            "bf16",
            "Train in bfloat16; for the RTX 30 series and newer.",
            group=GroupName.PRECISION,
            affects=BOTH,
        ),
    ] = False
    num_train_epochs: Annotated[
        int,
        Field(ge=1),
        SettingInfo(
            "Epochs",
            "Number of passes over the training rows.",
            group=GroupName.TRAINING,
            basic=True,
            irrelevant_for=ALL_CACHES,
        ),
    ] = 1
    per_device_train_batch_size: Annotated[
        int,
        Field(ge=1),
        SettingInfo(
            "Batch size",
            "Rows per forward pass; more is faster and needs more memory.",
            unit="rows",
            group=GroupName.TRAINING,
            basic=True,
            affects=BOTH,
        ),
    ] = 1
    per_device_eval_batch_size: Annotated[
        int,
        Field(ge=1),
        SettingInfo(
            "Evaluation batch size",
            "Rows per forward pass during evaluation.",
            unit="rows",
            group=GroupName.EVALUATION,
            affects=MEMORY,
        ),
    ] = 1
    gradient_accumulation_steps: Annotated[
        int,
        Field(ge=1),
        SettingInfo(
            "Gradient accumulation",
            "Batches per optimizer step; costs time, not memory.",
            "Rows per step = batch size × gradient accumulation.",
            unit="batches",
            group=GroupName.TRAINING,
            basic=True,
            irrelevant_for=("memory",),
        ),
    ] = 4
    gradient_checkpointing: Annotated[
        bool,
        SettingInfo(
            "Gradient checkpointing",
            "Recompute activations instead of storing them: much less memory, a third slower.",
            group=GroupName.MEMORY,
            affects=BOTH,
        ),
    ] = True
    max_grad_norm: Annotated[
        float,
        Field(ge=0),
        SettingInfo(
            "Gradient clipping",
            "Largest gradient norm; 0 switches clipping off.",
            group=GroupName.OPTIMIZER,
            irrelevant_for=ALL_CACHES,
        ),
    ] = 0.3
    learning_rate: Annotated[
        float,
        Field(gt=0, le=1),
        SettingInfo(
            "Learning rate",
            "Size of each optimizer step: too high diverges, too low learns nothing.",
            "Usual: sft and qlora 2e-4, rlhf 1.41e-5, dpo 5e-7.",
            group=GroupName.TRAINING,
            basic=True,
            irrelevant_for=ALL_CACHES,
        ),
    ] = 2e-4
    weight_decay: Annotated[
        float,
        Field(ge=0),
        SettingInfo(
            "Weight decay",
            "Strength of the decay of trained weights towards zero.",
            group=GroupName.OPTIMIZER,
            irrelevant_for=ALL_CACHES,
        ),
    ] = 0.001
    optim: Annotated[
        Optim,
        SettingInfo(
            "Optimizer",
            "The optimizer; the paged and 8-bit variants save GPU memory.",
            "Lion needs a third to a tenth of AdamW's learning rate.",
            group=GroupName.OPTIMIZER,
            affects=BOTH,
            irrelevant_for=("memory",),
        ),
    ] = "paged_adamw_32bit"
    lr_scheduler_type: Annotated[
        LearningRateSchedule,
        BeforeValidator(full_schedule_name),
        SettingInfo(
            "Learning rate schedule",
            "How the learning rate decays over the run.",
            "warmup_stable_decay, also called wsd, keeps the full rate until near the end.",
            group=GroupName.OPTIMIZER,
            irrelevant_for=ALL_CACHES,
        ),
    ] = "cosine"
    max_steps: Annotated[
        int,
        Field(ge=-1),
        SettingInfo(
            "Max steps",
            "End after this many optimizer steps; -1 for no limit.",
            unit="steps",
            group=GroupName.TRAINING,
            irrelevant_for=ALL_CACHES,
        ),
    ] = -1
    warmup_ratio: Annotated[
        float,
        Field(ge=0, le=1),
        SettingInfo(
            "Warm-up ratio",
            "Share of the run in which the learning rate rises from zero.",
            group=GroupName.OPTIMIZER,
            irrelevant_for=ALL_CACHES,
        ),
    ] = 0.03
    group_by_length: Annotated[
        bool,
        SettingInfo(
            "Group by length",
            "Batch rows of similar length: less padding, faster.",
            group=GroupName.DATA,
            affects=SPEED,
        ),
    ] = True
    packing: Annotated[
        bool,
        SettingInfo(
            "Packing",
            "Fill each sequence with several rows: faster on short rows.",
            group=GroupName.DATA,
            affects=BOTH,
        ),
    ] = False
    max_seq_length: Annotated[
        int | None,
        Field(ge=-1),
        SettingInfo(
            "Max sequence length",
            "Longest row in tokens; empty uses the limit of model and profile.",
            unit="tokens",
            group=GroupName.DATA,
            basic=True,
            affects=BOTH,
            irrelevant_for=("memory",),
        ),
    ] = None
    eval_split: Annotated[
        float,
        Field(ge=0, le=1),
        SettingInfo(
            "Evaluation split",
            "Share of the rows used for evaluation instead of training; 0 for none.",
            group=GroupName.EVALUATION,
            basic=True,
            affects=MEMORY,
            irrelevant_for=("memory",),
        ),
    ] = 0.2
    eval_steps: Annotated[
        int,
        Field(ge=1),
        SettingInfo(
            "Evaluate every",
            "Steps between two evaluations; the best checkpoint is kept.",
            unit="steps",
            group=GroupName.EVALUATION,
            irrelevant_for=ALL_CACHES,
        ),
    ] = 100
