"""The nested groups about data: sources, tokenizing, and the chat template."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from modelforge.config.schema.base import (
    ALL_CACHES,
    BOTH,
    MEMORY,
    REQUIRED,
    SPEED,
    Bounds,
    Group,
    Names,
    SettingsGroup,
    setting,
)

TEMPLATES = ("chatml", "llama3", "qwen", "gemma")
MAX_PATH_CHARS = 4096
TEMPLATE_SUFFIX = ".jinja"
MAX_TEXT = 20_000
MAX_UNUSED = 1_000
DEFAULT_CHAT_PAUSE = 8.0

_NAME: Bounds = {"min_length": 1, "max_length": 200}
_PROSE: Bounds = {"min_length": 1, "max_length": MAX_TEXT}


def _split_columns(value: Any) -> Any:
    """Return a text with commas, as the command line gives it, as a list of names."""
    if not isinstance(value, str):
        return value
    return [name.strip() for name in value.split(",") if name.strip()]


# A list, since the name of a column may have commas.
_Columns = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=200)]], BeforeValidator(_split_columns)
]


class Source(SettingsGroup):
    """A data source and how its rows are read. Only the path is required."""

    path: str = setting(REQUIRED, "Path", min_length=1, max_length=MAX_PATH_CHARS, basic=True)
    """A file, a folder of files, an upload, sample:NAME, or OWNER/NAME of the Hub.

    Also an address in object storage, s3://BUCKET/FILE or gs://BUCKET/FOLDER/. Data of the Hub and
    of storage is downloaded first.
    """

    type: Literal["auto", "text", "instruction", "conversation", "preference"] = setting(
        "auto", "Row type", basic=True
    )
    """The type of the rows; auto detects it from the columns."""

    subset: str | None = setting(None, "Subset", **_NAME)
    """The configuration of a Hub dataset, such as en."""

    split: str | None = setting(None, "Split", **_NAME)
    """The split of a Hub dataset, optionally with a slice: train[:10%]."""

    encoding: str | None = setting(None, "Encoding", min_length=1, max_length=40)
    """The encoding of a text file by Python's name; empty detects it.

    For example utf-8, cp1252, cp1251, koi8_r, shift_jis or gb18030.
    """

    sheet: str | None = setting(None, "Sheet", min_length=1, max_length=100)
    """The sheet of an Excel workbook; empty reads the first sheet that has cells."""

    chat_person: str | None = setting(None, "Person of a chat", **_NAME)
    """The person in a chat export whose messages the model learns to write.

    Needed for the exports of WhatsApp, Telegram, Discord and Slack; the data check lists the names.
    """

    chat_pause: float = setting(
        DEFAULT_CHAT_PAUSE, "Pause in a chat", ge=0.05, le=8760, unit="hours"
    )
    """A pause of this length between two messages of a chat export begins a conversation."""

    chat_mask: bool = setting(False, "Mask numbers and addresses")
    """Replace phone numbers, e-mail addresses, links and IBANs in a chat export.

    They become [number], [e-mail], [link] and [IBAN].
    """

    samples: int | None = setting(None, "Sampled rows", ge=1, unit="rows", basic=True)
    """Number of rows drawn with the seed; empty uses all."""

    weight: float = setting(1.0, "Weight", gt=0, le=100, basic=True)
    """How often each row is used: 2 repeats every row, 0.5 uses half of the rows.

    The integer part repeats every row; the fraction is a share drawn with the seed.
    """

    text_field: str | None = setting(None, "Text column", **_NAME)
    """The column with plain text."""

    instruction_field: str | None = setting(None, "Instruction column", **_NAME)
    """The column with the question or instruction."""

    input_field: str | None = setting(None, "Input column", **_NAME)
    """The column with the instruction's input; may be empty."""

    output_field: str | None = setting(None, "Output column", **_NAME)
    """The column with the completion."""

    messages_field: str | None = setting(None, "Messages column", **_NAME)
    """The column with the list of messages."""

    system_field: str | None = setting(None, "System column", **_NAME)
    """The column with the system message of a conversation."""

    tools_field: str | None = setting(None, "Tools column", **_NAME)
    """The column with the available tools, as JSON."""

    id_field: str | None = setting(None, "Id column", **_NAME)
    """The column with the id of a row; empty uses message_id or id.

    `parent_field` refers to it, for rows that are joined to conversations, as in H2O.
    """

    parent_field: str | None = setting(None, "Parent column", **_NAME)
    """The column with the id of the row before; empty uses parent_id or parent_message_id.

    Rows are joined to conversations by it. To train each row alone, set it in unused_columns.
    """

    unused_columns: _Columns = setting([], "Unused columns", max_length=MAX_UNUSED)
    """Columns that are not used, although their names or texts suggest a use.

    For instance system, tools or history, which are used without being set.
    """

    message_property_mappings: dict[str, str] = setting({}, "Message keys", max_length=20)
    """The keys of role, content and other properties in your messages.

    For instance role: from and content: value. Also tool_calls, tool_call_id and name.
    """

    system_prompt_type: Literal["none", "field", "fixed"] = setting("none", "System prompt")
    """A system message in place of that of the rows: none, from a column, or a text.

    With none, a column named system, system_prompt or system_message is used if there is one.
    """

    system_prompt_field: str | None = setting(None, "System prompt column", **_NAME)
    """The column with the system prompt."""

    system_prompt: str | None = setting(None, "System prompt text", **_PROSE, multiline=True)
    """The same system message for every row."""

    prompt_format: str | None = setting(None, "Prompt template", **_PROSE, multiline=True)
    """Your own template of a row, with {system}, {instruction}, {input} and {output}.

    The text before {output} is the prompt, the rest is trained. Write {{ for a brace.
    """

    prompt_format_no_input: str | None = setting(
        None, "Template without input", **_PROSE, multiline=True
    )
    """The template of rows whose input is empty.

    With {system}, {instruction} and {output}.
    """

    prompt_field: str | None = setting(None, "Prompt column", **_NAME)
    """The column with the prompt of the pair."""

    chosen_field: str | None = setting(None, "Chosen column", **_NAME)
    """The column with the preferred completion."""

    rejected_field: str | None = setting(None, "Rejected column", **_NAME)
    """The column with the rejected completion."""


class Data(SettingsGroup):
    """Where rows come from and how they are tokenized."""

    sources: list[Source] = setting(
        [], "Sources", Group.DATA, max_length=100, irrelevant_for=MEMORY
    )
    """Several datasets combined, with their columns; used instead of the single dataset."""

    validation_sources: list[Source] = setting(
        [], "Validation sources", Group.EVALUATION, max_length=100
    )
    """Datasets used only for evaluation; no rows are then split off the others."""

    records_to_sample: int | Literal["auto"] | None = setting(
        None, "Records to train on", Group.TRAINING, ge=1, unit="records", auto=True,
        irrelevant_for=ALL_CACHES,
    )  # fmt: skip
    """Rows that are read in the whole run, in as many passes as that takes; instead of epochs.

    A row counts each time it is read. Fewer than the training rows read a part of them once; auto
    is 25,000, times the RoPE factor of the run.
    """

    loss_on: Literal["completion", "assistant", "last_round", "all"] = setting(
        "completion", "Loss on", Group.DATA
    )
    """The tokens that are trained: completions, assistant turns, the last one, or all.

    completion: the completion of a pair, every assistant turn of a chat, all of a text. assistant:
    assistant turns only. last_round: the last assistant turn. all: every token, prompts too.
    """

    role_weights: Names = setting("", "Weights of roles", Group.DATA, max_length=200)
    """How much the tokens of each role weigh in the loss, such as user=0.1, assistant=1.

    Roles are system, user, assistant, tool, and template for what stands around the messages. Roles
    that are not named are as "Loss on" says. The loss of a token is multiplied by its weight.
    """

    message_weights: bool = setting(False, "Weights of messages", Group.DATA)
    """Multiply the loss of an answer by its own weight in the data, such as 0.5.

    Off, an answer with the weight 0 is not trained, and all others are trained alike.
    """

    use_chat_template: bool = setting(True, "Use chat template", Group.DATA)
    """Write conversations with the chat template; off writes their texts alone, one per line.

    Without it there are no roles and no markers: a prompt, a line break, the answer and the end
    token. For base models that continue a text. The plain format is saved with the model.
    """

    padding_side: Literal["auto", "right", "left"] = setting("auto", "Padding side", Group.DATA)
    """Side on which short rows of a batch are padded; auto pads right and keeps the tokenizer's.

    For models that continue a text. The saved tokenizer keeps the side, for other programs that
    generate in batches: these need left. Generation here always pads left. The loss stays the same.
    """

    truncation_strategy: Literal["delete", "left", "right", "split"] = setting(
        "right", "Truncation", Group.DATA
    )
    """Delete rows that are too long, cut them left or right, or split them."""

    packing_strategy: Literal["bfd", "bfd_split", "wrapped"] = setting(
        "bfd", "Packing strategy", Group.DATA, affects=MEMORY
    )
    """bfd keeps rows whole, bfd_split cuts long ones, wrapped cuts anywhere.

    Used when packing is on.
    """

    shuffle: bool = setting(True, "Shuffle rows", Group.DATA, irrelevant_for=ALL_CACHES)
    """Train the rows in random order, a new one in each pass.

    When off, rows are trained in the order of their file, and sources one after the other: for data
    that goes from easy to hard. Batches are then not grouped by length.
    """

    padding_free: bool = setting(False, "Padding-free batches", Group.DATA, affects=BOTH)
    """Concatenate the rows of a batch instead of padding them.

    Rows that are too long are truncated first.
    """

    num_workers: int | None = setting(
        None, "Data loader workers", Group.DATA, ge=0, le=64, unit="processes", affects=SPEED
    )
    """Processes that prepare batches during training; empty chooses a number.

    Rows are tokenized before training, so little work remains: the default is 2 with a GPU and many
    rows, else none. On Windows there are none.
    """
