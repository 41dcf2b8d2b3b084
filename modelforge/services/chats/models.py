"""How a model is asked in a chat: its kind of input, context, GPU, and the tools of its data."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal

from modelforge.config.schema.base import Gib, about
from modelforge.data.sources.load import iterate_rows
from modelforge.errors import ForgeError
from modelforge.services.chat_client import ChatModelSpec
from modelforge.services.chats.cpu import CpuFit

ROWS_READ = 100

ChatFormat = Literal["conversation", "passage", "document", "continuation"]
_FORMATS: dict[str, ChatFormat] = {"span": "passage", "seq2seq": "document"}
_TASK_FORMATS: dict[str, ChatFormat] = {
    "extractive-question-answering": "passage",
    "summarization": "document",
}


@dataclass(frozen=True)
class ChatGpu:
    """A GPU that can be chosen for a chat."""

    index: int
    name: str
    free_gib: Gib


@dataclass(frozen=True)
class ChatModelView:
    """How a model is asked."""

    model: Annotated[str, about("Id of the run, or name of the base model.")]
    name: str
    format: Annotated[
        ChatFormat,
        about(
            "`conversation`; `passage`: a question about the system message; `document`: the "
            "last message is rewritten; `continuation`: it is continued, by a new model that has "
            "seen no conversation."
        ),
    ]
    tuned: Annotated[bool, about("Whether it is a run.")]
    has_base: Annotated[bool, about("Whether its base model can answer as well.")]
    base_name: str
    system: Annotated[str, about("The system message of the training; empty if it had none.")]
    context: Annotated[int | None, about("The longest conversation in tokens; null if unknown.")]
    gpu: Annotated[int | None, about("The GPU it is loaded on by default; null without one.")]
    gpus: tuple[ChatGpu, ...]
    cpu: CpuFit
    tools: Annotated[
        tuple[dict[str, Any], ...], about("Those of the first training row that has tools.")
    ] = ()


def chat_format(spec: ChatModelSpec) -> ChatFormat:
    """Return how a model is asked."""
    if spec.continues:
        return "continuation"
    return _FORMATS.get(spec.head) or _TASK_FORMATS.get(spec.task, "conversation")


def first_tools(record: Any) -> tuple[dict[str, Any], ...]:
    """Return the tools of the first rows of a run's data that has any; none if it cannot be read.

    `record` is the part `dataset` of the run's record.
    """
    if not isinstance(record, dict):
        return ()
    try:
        rows = islice(iterate_rows(record, 0), ROWS_READ)
        return next((tuple(row["tools"]) for _number, row in rows if row.get("tools")), ())
    except (ForgeError, OSError, KeyError, TypeError, ValueError):  # gone, or damaged
        return ()
