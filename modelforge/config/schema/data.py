"""The nested groups about data: the sources, how rows become tokens, and the chat template."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelforge.config.schema.base import SettingInfo
from modelforge.config.schema.runtime import SettingsGroup

TEMPLATES = ("chatml", "llama3", "qwen", "gemma")
TEMPLATE_SUFFIX = ".jinja"
LONGEST_TEXT = 20_000

_Name = Field(min_length=1, max_length=200)
_Prose = Field(min_length=1, max_length=LONGEST_TEXT)


class Source(SettingsGroup):
    """One place that rows come from, and how they are read. Only the path must be given."""

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
        SettingInfo("Kind of rows", "What a row is; auto tells it from the columns.", basic=True),
    ] = "auto"
    subset: Annotated[
        str | None, _Name, SettingInfo("Subset", "The configuration of a Hub data set, such as en.")
    ] = None
    split: Annotated[
        str | None,
        _Name,
        SettingInfo("Part", "The split of a Hub data set, with a slice if you like: train[:10%]."),
    ] = None
    samples: Annotated[
        int | None,
        Field(ge=1),
        SettingInfo(
            "Rows taken",
            "Take so many rows, drawn with the seed; empty takes all.",
            unit="rows",
            basic=True,
        ),
    ] = None
    weight: Annotated[
        float,
        Field(gt=0, le=100),
        SettingInfo(
            "Weight",
            "How often each row counts: 2 gives every row twice, 0.5 every second one.",
            "Whole parts repeat every row; the rest is a share of the rows, drawn with the seed.",
            basic=True,
        ),
    ] = 1.0
    text_field: Annotated[
        str | None, _Name, SettingInfo("Text column", "The column of plain text.")
    ] = None
    instruction_field: Annotated[
        str | None,
        _Name,
        SettingInfo("Question column", "The column of the question or instruction."),
    ] = None
    input_field: Annotated[
        str | None,
        _Name,
        SettingInfo(
            "Input column", "The column of what the instruction is about; may be empty in a row."
        ),
    ] = None
    output_field: Annotated[
        str | None, _Name, SettingInfo("Answer column", "The column to learn.")
    ] = None
    messages_field: Annotated[
        str | None,
        _Name,
        SettingInfo("Conversation column", "The column with the list of messages."),
    ] = None
    system_field: Annotated[
        str | None,
        _Name,
        SettingInfo("System column", "The column with the system message of a conversation."),
    ] = None
    tools_field: Annotated[
        str | None,
        _Name,
        SettingInfo("Tools column", "The column with the tools on offer, as JSON."),
    ] = None
    message_property_mappings: Annotated[
        dict[str, str],
        SettingInfo(
            "Names in messages",
            "What role, content and the like are called in your messages.",
            "For instance role: from and content: value. Also tool_calls, tool_call_id and name.",
        ),
    ] = Field(default_factory=dict, max_length=20)
    system_prompt_type: Annotated[
        Literal["none", "field", "fixed"],
        SettingInfo(
            "System prompt", "Where the system message comes from: nowhere, a column, one text."
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
            "Prompt format",
            "Your own layout of a row, with {system}, {instruction}, {input} and {output}.",
            "Up to {output} is the question, the rest is learned. Write {{ for a brace.",
            multiline=True,
        ),
    ] = None
    prompt_format_no_input: Annotated[
        str | None,
        _Prose,
        SettingInfo(
            "Prompt format without input",
            "The layout of rows whose input is empty.",
            "With {system}, {instruction} and {output}.",
            multiline=True,
        ),
    ] = None
    prompt_field: Annotated[
        str | None, _Name, SettingInfo("Prompt column", "The question that both answers belong to.")
    ] = None
    chosen_field: Annotated[
        str | None, _Name, SettingInfo("Better answer column", "The answer that was preferred.")
    ] = None
    rejected_field: Annotated[
        str | None, _Name, SettingInfo("Worse answer column", "The answer that was not preferred.")
    ] = None


class Data(SettingsGroup):
    """Where rows come from and how they become tokens."""

    sources: Annotated[
        list[Source],
        SettingInfo(
            "Sources",
            "Several data sets mixed, with their columns; used instead of the one dataset.",
            group="Data",
        ),
    ] = Field(default_factory=list, max_length=100)
    validation_sources: Annotated[
        list[Source],
        SettingInfo(
            "Sources to check on",
            "Data sets only to check on; nothing is then held out of the others.",
            group="Evaluation",
        ),
    ] = Field(default_factory=list, max_length=100)
    loss_on: Annotated[
        Literal["completion", "assistant", "last_round", "all"],
        SettingInfo(
            "Learn from",
            "Which tokens are learned: the answers, assistant turns, the last one, or all.",
            "completion: the answer of a pair, every assistant turn of a chat, the whole of a "
            "text. assistant: assistant turns only. last_round: the last assistant turn. "
            "all: every token, questions too.",
            group="Data",
        ),
    ] = "completion"
    truncation_strategy: Annotated[
        Literal["delete", "left", "right", "split"],
        SettingInfo(
            "Rows too long",
            "Leave them out, cut at the left or the right, or split into several rows.",
            group="Data",
        ),
    ] = "right"
    packing_strategy: Annotated[
        Literal["bfd", "bfd_split", "wrapped"],
        SettingInfo(
            "How rows are packed",
            "bfd keeps rows whole, bfd_split cuts long ones, wrapped cuts anywhere.",
            "Used when packing is on.",
            group="Data",
        ),
    ] = "bfd"
    padding_free: Annotated[
        bool,
        SettingInfo(
            "No padding",
            "Lay the rows of a batch end to end instead of padding them.",
            "Rows too long are cut beforehand.",
            group="Data",
        ),
    ] = False
    num_workers: Annotated[
        int | None,
        Field(ge=0, le=64),
        SettingInfo(
            "Loading processes",
            "Processes that lay out batches beside the training; empty chooses.",
            "Rows are tokens before the training begins, so little is left to do: chosen are 2 "
            "with a GPU and many rows, else none. On Windows there are none.",
            unit="processes",
            group="Data",
        ),
    ] = None


class Model(SettingsGroup):
    """How the model is spoken to."""

    chat_template: Annotated[
        str | None,
        Field(max_length=4096),
        SettingInfo(
            "Chat template",
            "How turns become text: empty for the model's own, a name, or a .jinja file.",
            f"The names are {', '.join(TEMPLATES)}.",
            group="Model",
        ),
    ] = None
    system_prompt: Annotated[
        str | None,
        Field(max_length=LONGEST_TEXT),
        SettingInfo(
            "System message",
            "Put before every conversation, in place of what the data says.",
            group="Model",
            multiline=True,
        ),
    ] = None
    attn_implementation: Annotated[
        Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3"],
        SettingInfo(
            "Attention",
            "How attention is computed; sdpa is fast everywhere.",
            "flash_attention_2 and _3 need their package and a card that can.",
            group="Model",
        ),
    ] = "sdpa"
