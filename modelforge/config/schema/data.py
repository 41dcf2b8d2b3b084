"""The nested groups about data: sources, tokenizing, and the chat template."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelforge.config.schema.base import BOTH, MEMORY, SPEED, GroupName, SettingInfo, SettingsGroup

TEMPLATES = ("chatml", "llama3", "qwen", "gemma")
TEMPLATE_SUFFIX = ".jinja"
MAX_TEXT = 20_000

_Name = Field(min_length=1, max_length=200)
_Prose = Field(min_length=1, max_length=MAX_TEXT)


class Source(SettingsGroup):
    """A data source and how its rows are read. Only the path is required."""

    path: Annotated[
        str,
        Field(min_length=1, max_length=4096),
        SettingInfo(
            "Path",
            "A file, a folder of files, an upload, sample:NAME or hub:OWNER/NAME.",
            basic=True,
        ),
    ]
    type: Annotated[
        Literal["auto", "text", "instruction", "conversation", "preference"],
        SettingInfo(
            "Row type", "The type of the rows; auto detects it from the columns.", basic=True
        ),
    ] = "auto"
    subset: Annotated[
        str | None, _Name, SettingInfo("Subset", "The configuration of a Hub dataset, such as en.")
    ] = None
    split: Annotated[
        str | None,
        _Name,
        SettingInfo("Split", "The split of a Hub dataset, optionally with a slice: train[:10%]."),
    ] = None
    encoding: Annotated[
        str | None,
        Field(min_length=1, max_length=40),
        SettingInfo(
            "Encoding",
            "The encoding of a text file by Python's name; empty detects it.",
            "For example utf-8, cp1252, cp1251, koi8_r, shift_jis or gb18030.",
        ),
    ] = None
    samples: Annotated[
        int | None,
        Field(ge=1),
        SettingInfo(
            "Sampled rows",
            "Number of rows drawn with the seed; empty uses all.",
            unit="rows",
            basic=True,
        ),
    ] = None
    weight: Annotated[
        float,
        Field(gt=0, le=100),
        SettingInfo(
            "Weight",
            "How often each row is used: 2 repeats every row, 0.5 uses half of the rows.",
            "The integer part repeats every row; the fraction is a share drawn with the seed.",
            basic=True,
        ),
    ] = 1.0
    text_field: Annotated[
        str | None, _Name, SettingInfo("Text column", "The column with plain text.")
    ] = None
    instruction_field: Annotated[
        str | None,
        _Name,
        SettingInfo("Instruction column", "The column with the question or instruction."),
    ] = None
    input_field: Annotated[
        str | None,
        _Name,
        SettingInfo("Input column", "The column with the instruction's input; may be empty."),
    ] = None
    output_field: Annotated[
        str | None, _Name, SettingInfo("Output column", "The column with the completion.")
    ] = None
    messages_field: Annotated[
        str | None, _Name, SettingInfo("Messages column", "The column with the list of messages.")
    ] = None
    system_field: Annotated[
        str | None,
        _Name,
        SettingInfo("System column", "The column with the system message of a conversation."),
    ] = None
    tools_field: Annotated[
        str | None,
        _Name,
        SettingInfo("Tools column", "The column with the available tools, as JSON."),
    ] = None
    message_property_mappings: Annotated[
        dict[str, str],
        SettingInfo(
            "Message keys",
            "The keys of role, content and other properties in your messages.",
            "For instance role: from and content: value. Also tool_calls, tool_call_id and name.",
        ),
    ] = Field(default_factory=dict, max_length=20)
    system_prompt_type: Annotated[
        Literal["none", "field", "fixed"],
        SettingInfo(
            "System prompt", "Where the system message comes from: nowhere, a column, a text."
        ),
    ] = "none"
    system_prompt_field: Annotated[
        str | None, _Name, SettingInfo("System prompt column", "The column with the system prompt.")
    ] = None
    system_prompt: Annotated[
        str | None,
        _Prose,
        SettingInfo("System prompt text", "The same system message for every row.", multiline=True),
    ] = None
    prompt_format: Annotated[
        str | None,
        _Prose,
        SettingInfo(
            "Prompt template",
            "Your own template of a row, with {system}, {instruction}, {input} and {output}.",
            "The text before {output} is the prompt, the rest is trained. Write {{ for a brace.",
            multiline=True,
        ),
    ] = None
    prompt_format_no_input: Annotated[
        str | None,
        _Prose,
        SettingInfo(
            "Template without input",
            "The template of rows whose input is empty.",
            "With {system}, {instruction} and {output}.",
            multiline=True,
        ),
    ] = None
    prompt_field: Annotated[
        str | None, _Name, SettingInfo("Prompt column", "The column with the prompt of the pair.")
    ] = None
    chosen_field: Annotated[
        str | None, _Name, SettingInfo("Chosen column", "The column with the preferred completion.")
    ] = None
    rejected_field: Annotated[
        str | None,
        _Name,
        SettingInfo("Rejected column", "The column with the rejected completion."),
    ] = None


class Data(SettingsGroup):
    """Where rows come from and how they are tokenized."""

    sources: Annotated[
        list[Source],
        SettingInfo(
            "Sources",
            "Several datasets combined, with their columns; used instead of the single dataset.",
            group=GroupName.DATA,
            irrelevant_for=("memory",),
        ),
    ] = Field(default_factory=list, max_length=100)
    validation_sources: Annotated[
        list[Source],
        SettingInfo(
            "Validation sources",
            "Datasets used only for evaluation; no rows are then split off the others.",
            group=GroupName.EVALUATION,
        ),
    ] = Field(default_factory=list, max_length=100)
    loss_on: Annotated[
        Literal["completion", "assistant", "last_round", "all"],
        SettingInfo(
            "Loss on",
            "The tokens that are trained: completions, assistant turns, the last one, or all.",
            "completion: the completion of a pair, every assistant turn of a chat, all of a "
            "text. assistant: assistant turns only. last_round: the last assistant turn. "
            "all: every token, prompts too.",
            group=GroupName.DATA,
        ),
    ] = "completion"
    truncation_strategy: Annotated[
        Literal["delete", "left", "right", "split"],
        SettingInfo(
            "Truncation",
            "Delete rows that are too long, cut them left or right, or split them.",
            group=GroupName.DATA,
        ),
    ] = "right"
    packing_strategy: Annotated[
        Literal["bfd", "bfd_split", "wrapped"],
        SettingInfo(
            "Packing strategy",
            "bfd keeps rows whole, bfd_split cuts long ones, wrapped cuts anywhere.",
            "Used when packing is on.",
            group=GroupName.DATA,
            affects=MEMORY,
        ),
    ] = "bfd"
    padding_free: Annotated[
        bool,
        SettingInfo(
            "Padding-free batches",
            "Concatenate the rows of a batch instead of padding them.",
            "Rows that are too long are truncated first.",
            group=GroupName.DATA,
            affects=BOTH,
        ),
    ] = False
    num_workers: Annotated[
        int | None,
        Field(ge=0, le=64),
        SettingInfo(
            "Data loader workers",
            "Processes that prepare batches during training; empty chooses a number.",
            "Rows are tokenized before training, so little work remains: the default is 2 with a "
            "GPU and many rows, else none. On Windows there are none.",
            unit="processes",
            group=GroupName.DATA,
            affects=SPEED,
        ),
    ] = None


class Model(SettingsGroup):
    """Chat template, system message and attention of the model."""

    chat_template: Annotated[
        str | None,
        Field(max_length=4096),
        SettingInfo(
            "Chat template",
            "How messages become text: empty for the model's own, a name, or a .jinja file.",
            f"The names are {', '.join(TEMPLATES)}.",
            group=GroupName.MODEL,
        ),
    ] = None
    system_prompt: Annotated[
        str | None,
        Field(max_length=MAX_TEXT),
        SettingInfo(
            "System message",
            "Placed before every conversation, instead of the system message of the data.",
            group=GroupName.MODEL,
            multiline=True,
        ),
    ] = None
    attn_implementation: Annotated[
        Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3"],
        SettingInfo(
            "Attention",
            "The attention implementation; sdpa is fast everywhere.",
            "flash_attention_2 and _3 need their package and a supported GPU.",
            group=GroupName.MODEL,
            affects=SPEED,
        ),
    ] = "sdpa"
