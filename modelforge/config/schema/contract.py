"""The 33 flat fields of the public contract: type, bounds, default, label, help and group.

Their names, types and defaults never change. Choices may be added, never taken away.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from modelforge.config.optimizers import LearningRateSchedule, Optim, full_schedule_name
from modelforge.config.schema.base import SettingInfo
from modelforge.config.schema.runtime import SettingsGroup

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Contract(SettingsGroup):
    """The fields that every caller may rely on for ever."""

    task: Annotated[
        Literal["text-generation", "summarization", "extractive-question-answering"],
        SettingInfo("Task", "What the model should learn to do.", group="Task", basic=True),
    ]
    model_name: Annotated[
        Text,
        SettingInfo(
            "Model",
            "The model to start from: a Hub id, a folder, or starter.",
            "`starter` is SmolLM2-135M-Instruct, which needs neither network nor GPU.",
            group="Model",
            basic=True,
        ),
    ]
    provider: Annotated[
        Literal["huggingface", "unsloth"],
        SettingInfo("Provider", "Which library loads and drives the model.", group="Model"),
    ] = "huggingface"
    strategy: Annotated[
        Literal["sft", "qlora", "rlhf", "dpo"],
        SettingInfo(
            "Strategy",
            "How it learns: from answers (sft, qlora) or from preferences (dpo, rlhf).",
            group="Task",
            basic=True,
        ),
    ] = "sft"
    dataset: Annotated[
        Text,
        SettingInfo(
            "Dataset",
            "The file to learn from, or sample:NAME for one of ours.",
            group="Data",
            basic=True,
        ),
    ]
    compute_specs: Annotated[
        Literal["low_end", "mid_range", "high_end"],
        SettingInfo(
            "Profile", "The class of machine the settings were prefilled for.", group="Hardware"
        ),
    ]
    lora_r: Annotated[
        int,
        Field(ge=1, le=256),
        SettingInfo(
            "LoRA rank",
            "Size of the adapter: higher learns more and needs more memory.",
            "8 to 16 is enough for a style or a persona; 64 for new formats and much data.",
            group="Adapter",
            basic=True,
        ),
    ] = 16
    lora_alpha: Annotated[
        int,
        Field(ge=1),
        SettingInfo(
            "LoRA alpha", "How strongly the adapter acts; usually twice the rank.", group="Adapter"
        ),
    ] = 32
    lora_dropout: Annotated[
        float,
        Field(ge=0, le=1),
        SettingInfo(
            "LoRA dropout",
            "Share of adapter inputs dropped while training, against overfitting.",
            group="Adapter",
        ),
    ] = 0.1
    use_4bit: Annotated[
        bool,
        SettingInfo(
            "4-bit weights",
            "Keep the frozen model in 4 bits: a quarter of the memory, a little slower.",
            "On the CPU it works but is slow; there it is off unless you ask for it.",
            group="Quantization",
            basic=True,
        ),
    ] = True
    use_8bit: Annotated[
        bool,
        SettingInfo(
            "8-bit weights",
            "Keep the frozen model in 8 bits: half of the memory.",
            group="Quantization",
        ),
    ] = False
    bnb_4bit_compute_dtype: Annotated[
        Literal["float16", "bfloat16", "float32"],
        SettingInfo(
            "4-bit compute type",
            "Number format in which 4-bit weights are multiplied.",
            group="Quantization",
        ),
    ] = "float16"
    bnb_4bit_quant_type: Annotated[
        Literal["nf4", "fp4"],
        SettingInfo(
            "4-bit number format", "nf4 suits model weights better than fp4.", group="Quantization"
        ),
    ] = "nf4"
    use_nested_quant: Annotated[
        bool,
        SettingInfo(
            "Nested quantization",
            "Quantize the scales too: saves about 0.4 bits a weight.",
            group="Quantization",
        ),
    ] = False
    fp16: Annotated[
        bool,
        SettingInfo(
            "fp16", "Train in 16-bit floats; for cards before the RTX 30 series.", group="Precision"
        ),
    ] = False
    bf16: Annotated[
        bool,
        SettingInfo(
            "bf16", "Train in bfloat16; for the RTX 30 series and newer.", group="Precision"
        ),
    ] = False
    num_train_epochs: Annotated[
        int,
        Field(ge=1),
        SettingInfo(
            "Epochs", "How many times the model sees every row.", group="Training", basic=True
        ),
    ] = 1
    per_device_train_batch_size: Annotated[
        int,
        Field(ge=1),
        SettingInfo(
            "Batch size",
            "Rows processed at once; more is faster and needs more memory.",
            unit="rows",
            group="Training",
            basic=True,
        ),
    ] = 1
    per_device_eval_batch_size: Annotated[
        int,
        Field(ge=1),
        SettingInfo(
            "Evaluation batch size",
            "Rows processed at once when checking on held-out rows.",
            unit="rows",
            group="Evaluation",
        ),
    ] = 1
    gradient_accumulation_steps: Annotated[
        int,
        Field(ge=1),
        SettingInfo(
            "Accumulation",
            "Batches added up before each update; costs time, not memory.",
            "Rows per update = batch size × accumulation.",
            unit="batches",
            group="Training",
            basic=True,
        ),
    ] = 4
    gradient_checkpointing: Annotated[
        bool,
        SettingInfo(
            "Gradient checkpointing",
            "Recompute instead of remember: much less memory, about a third slower.",
            group="Memory",
        ),
    ] = True
    max_grad_norm: Annotated[
        float,
        Field(ge=0),
        SettingInfo(
            "Gradient clipping",
            "Longest gradient allowed; 0 switches clipping off.",
            group="Optimizer",
        ),
    ] = 0.3
    learning_rate: Annotated[
        float,
        Field(gt=0, le=1),
        SettingInfo(
            "Learning rate",
            "Size of each update: too high forgets, too low learns nothing.",
            "Usual: sft and qlora 2e-4, rlhf 1.41e-5, dpo 5e-7.",
            group="Training",
            basic=True,
        ),
    ] = 2e-4
    weight_decay: Annotated[
        float,
        Field(ge=0),
        SettingInfo("Weight decay", "Pull of the adapter towards zero.", group="Optimizer"),
    ] = 0.001
    optim: Annotated[
        Optim,
        SettingInfo(
            "Optimizer",
            "How updates are made; the paged and 8-bit kinds save GPU memory.",
            "Lion wants a third to a tenth of AdamW's learning rate.",
            group="Optimizer",
        ),
    ] = "paged_adamw_32bit"
    lr_scheduler_type: Annotated[
        LearningRateSchedule,
        BeforeValidator(full_schedule_name),
        SettingInfo(
            "Schedule",
            "How the learning rate falls over the run.",
            "warmup_stable_decay, also called wsd, keeps the full rate until the end is near.",
            group="Optimizer",
        ),
    ] = "cosine"
    max_steps: Annotated[
        int,
        Field(ge=-1),
        SettingInfo(
            "Most updates",
            "End after this many updates, whatever the epochs; -1 for no limit.",
            unit="updates",
            group="Training",
        ),
    ] = -1
    warmup_ratio: Annotated[
        float,
        Field(ge=0, le=1),
        SettingInfo(
            "Warm-up", "Share of the run in which the rate rises from zero.", group="Optimizer"
        ),
    ] = 0.03
    group_by_length: Annotated[
        bool,
        SettingInfo(
            "Group by length",
            "Put rows of like length together: less padding, faster.",
            group="Data",
        ),
    ] = True
    packing: Annotated[
        bool,
        SettingInfo(
            "Packing", "Fill each sequence with several rows: faster on short rows.", group="Data"
        ),
    ] = False
    max_seq_length: Annotated[
        int | None,
        Field(ge=-1),
        SettingInfo(
            "Longest row",
            "Rows beyond this many tokens are cut; empty chooses from model and profile.",
            unit="tokens",
            group="Data",
            basic=True,
        ),
    ] = None
    eval_split: Annotated[
        float,
        Field(ge=0, le=1),
        SettingInfo(
            "Held out",
            "Share of the rows kept aside to check on, never trained; 0 for none.",
            group="Evaluation",
            basic=True,
        ),
    ] = 0.2
    eval_steps: Annotated[
        int,
        Field(ge=1),
        SettingInfo(
            "Check every",
            "Updates between two looks at the held-out rows; the best is kept.",
            unit="updates",
            group="Evaluation",
        ),
    ] = 100
